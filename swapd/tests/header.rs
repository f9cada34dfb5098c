//! The header: what `mkswap` writes is read, what we write is what it writes, and nothing makes the reader panic.

use proptest::prelude::*;
use quire_swapd::header::{self, Header, HeaderError, MOST_BAD, PAGE, Uuid};
use std::process::Command;

const UUID: Uuid = Uuid([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0x4d, 0xef, 0x80, 1, 2, 3, 4, 5, 6, 0xff]);
const UUID_TEXT: &str = "12345678-9abc-4def-8001-0203040506ff";

fn put(page: &mut [u8; PAGE], at: usize, v: u32) {
    page[at..at + 4].copy_from_slice(&v.to_le_bytes());
}

#[test]
fn reads_what_it_writes() {
    let page = header::format(1000, UUID, "quire").unwrap();
    let h = Header::read(&page, 1000).unwrap();
    assert_eq!((h.last_page(), h.label(), h.bad_pages().count()), (999, Some("quire"), 0));
    assert_eq!(h.uuid().to_string(), UUID_TEXT);
    // The device may be longer than the area.
    assert!(Header::read(&page, 1001).is_ok());
}

#[test]
fn refuses_with_a_reason() {
    let good = header::format(1000, UUID, "").unwrap();
    let with = |at, v| {
        let mut p = good;
        put(&mut p, at, v);
        p
    };
    let read = |p: &[u8; PAGE]| Header::read(p, 1000).map(|h| h.last_page());
    assert_eq!(read(&[0; PAGE]), Err(HeaderError::NoSignature));
    let mut old = good;
    old[PAGE - 10..].copy_from_slice(b"SWAP-SPACE");
    assert_eq!(read(&old), Err(HeaderError::OldSignature));
    assert_eq!(read(&with(1024, 2)), Err(HeaderError::Version(2)));
    assert_eq!(read(&with(1024, 1 << 24)), Err(HeaderError::OtherByteOrder));
    assert_eq!(read(&with(1028, 0)), Err(HeaderError::Empty));
    assert_eq!(Header::read(&good, 999).err(), Some(HeaderError::Short { last_page: 999, pages: 999 }));
    assert_eq!(read(&with(1032, MOST_BAD as u32 + 1)), Err(HeaderError::BadPageCount(MOST_BAD as u32 + 1)));
    for bad in [0, 1000, u32::MAX] {
        let mut p = with(1032, 1);
        put(&mut p, 1536, bad);
        assert_eq!(read(&p), Err(HeaderError::BadPage(bad)));
    }
    // All pages bad.
    let mut p = with(1028, 2);
    put(&mut p, 1032, 2);
    put(&mut p, 1536, 1);
    put(&mut p, 1540, 2);
    assert_eq!(read(&p), Err(HeaderError::Empty));
    // The longest list.
    let mut p = with(1032, MOST_BAD as u32);
    (0..MOST_BAD).for_each(|i| put(&mut p, 1536 + 4 * i, 1 + i as u32));
    assert_eq!(Header::read(&p, 1000).unwrap().bad_pages().last(), Some(MOST_BAD as u32));
    assert!(header::format(9, UUID, "").is_err());
    assert!(header::format(10, UUID, "seventeen letters").is_err());
}

#[test]
fn the_same_as_mkswap() {
    let path = std::env::temp_dir().join(format!("quire-mkswap-{}", std::process::id()));
    let pages = 300;
    std::fs::write(&path, vec![0; pages * PAGE]).unwrap();
    let done = ["mkswap", "/sbin/mkswap", "/usr/sbin/mkswap"].iter().find_map(|program| {
        Command::new(program).args(["-q", "-U", UUID_TEXT, "-L", "a label"]).arg(&path).status().ok()
    });
    let image = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    match done {
        Some(status) if status.success() => {
            let ours = header::format(pages as u64, UUID, "a label").unwrap();
            assert!(image[..PAGE] == ours, "mkswap writes another header");
            assert!(image[PAGE..].iter().all(|&b| b == 0));
        }
        _ => eprintln!("mkswap (util-linux) is not here: not compared"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// A right header with some bytes changed, on a device of any size: an error, or numbers in range.
    #[test]
    fn survives_anything(
        pages in prop_oneof![Just(0u64), 1..3000u64, any::<u64>()],
        changes in prop::collection::vec((prop_oneof![1024..1600usize, 4080..PAGE, 0..PAGE], any::<u8>()), 0..40),
        blank in prop::bool::weighted(0.1),
    ) {
        let mut page = if blank { [0; PAGE] } else { header::format(1000, UUID, "x").unwrap() };
        for (at, b) in changes {
            page[at] = b;
        }
        match Header::read(&page, pages) {
            Ok(h) => {
                prop_assert!(h.last_page() >= 1 && (h.last_page() as u64) < pages);
                prop_assert!(h.bad_pages().all(|p| p >= 1 && p <= h.last_page()));
                prop_assert!(h.label().is_none_or(|l| l.len() <= 16));
                prop_assert_eq!(h.uuid().to_string().len(), 36);
            }
            Err(e) => prop_assert!(!e.to_string().is_empty()),
        }
    }
}
