//! The first page of a swap area, as `mkswap` writes it: version 1, signature `SWAPSPACE2`.
//!
//! ```text
//!     0  1024 bytes that belong to boot loaders: never read, zero in a new header
//!  1024  version (1)          1028  last page of the area      1032  number of bad pages
//!  1036  UUID, 16 bytes       1052  label, 16 bytes, padded with zeros
//!  1536  bad pages, 32 bits each, at most 637                  4086  "SWAPSPACE2"
//! ```
//!
//! Numbers are little-endian. A header is input from outside: whatever it holds, reading it ends in a [`Header`] whose numbers
//! are in range, or in a [`HeaderError`]. A device whose header was not understood is never written.

/// Bytes of the header: one page.
pub const PAGE: usize = 4096;
const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";
const SIGNATURE_AT: usize = PAGE - SIGNATURE.len();
const VERSION_AT: usize = 1024;
const LAST_AT: usize = 1028;
const BAD_COUNT_AT: usize = 1032;
const UUID_AT: usize = 1036;
const LABEL_AT: usize = 1052;
const BAD_AT: usize = 1536;
/// The most bad pages that a header has room for.
pub const MOST_BAD: usize = (SIGNATURE_AT - BAD_AT) / 4;

/// Why a device is no swap area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// Not the signature that `mkswap` writes.
    NoSignature,
    /// The signature of Linux before 2.1 (`SWAP-SPACE`), which is not supported.
    OldSignature,
    /// Written by a machine of the other byte order.
    OtherByteOrder,
    /// Another version than 1.
    Version(u32),
    /// No page behind the header, or only bad ones.
    Empty,
    /// The device ends before the area does.
    Short {
        /// The last page by the header.
        last_page: u32,
        /// Pages that the device has.
        pages: u64,
    },
    /// More bad pages than the header has room for.
    BadPageCount(u32),
    /// A bad page outside of the area, or the header itself.
    BadPage(u32),
}

impl core::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            HeaderError::NoSignature => write!(f, "no SWAPSPACE2 signature (mkswap makes one)"),
            HeaderError::OldSignature => write!(f, "a swap area of version 0 (SWAP-SPACE), which is not supported"),
            HeaderError::OtherByteOrder => write!(f, "a swap area of the other byte order"),
            HeaderError::Version(v) => write!(f, "a swap area of version {v}, not 1"),
            HeaderError::Empty => write!(f, "a swap area without a usable page"),
            HeaderError::Short { last_page, pages } => {
                write!(f, "the header says that page {last_page} is the last, but there are only {pages}")
            }
            HeaderError::BadPageCount(n) => write!(f, "a list of {n} bad pages, of which only {MOST_BAD} fit"),
            HeaderError::BadPage(p) => write!(f, "a bad page {p} outside of the area"),
        }
    }
}

/// A header that was found right.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    page: &'a [u8; PAGE],
    last_page: u32,
    bad: usize,
}

fn number(page: &[u8; PAGE], at: usize) -> u32 {
    let mut b = [0; 4];
    b.copy_from_slice(&page[at..at + 4]);
    u32::from_le_bytes(b)
}

impl<'a> Header<'a> {
    /// Reads the header of a device with `pages` whole pages.
    pub fn read(page: &'a [u8; PAGE], pages: u64) -> Result<Header<'a>, HeaderError> {
        match &page[SIGNATURE_AT..] {
            s if s == SIGNATURE => {}
            b"SWAP-SPACE" => return Err(HeaderError::OldSignature),
            _ => return Err(HeaderError::NoSignature),
        }
        match number(page, VERSION_AT) {
            1 => {}
            v if v.swap_bytes() == 1 => return Err(HeaderError::OtherByteOrder),
            v => return Err(HeaderError::Version(v)),
        }
        let last_page = number(page, LAST_AT);
        if last_page == 0 {
            return Err(HeaderError::Empty);
        }
        if last_page as u64 >= pages {
            return Err(HeaderError::Short { last_page, pages });
        }
        let bad = number(page, BAD_COUNT_AT);
        if bad as usize > MOST_BAD {
            return Err(HeaderError::BadPageCount(bad));
        }
        let header = Header { page, last_page, bad: bad as usize };
        for p in header.bad_pages() {
            if p == 0 || p > last_page {
                return Err(HeaderError::BadPage(p));
            }
        }
        // Pages may be listed twice, so this is only sure when there are enough others; a listed one is not counted twice by
        // whoever marks them.
        if header.bad_pages().count() as u32 >= last_page && (1..=last_page).all(|p| header.is_bad(p)) {
            return Err(HeaderError::Empty);
        }
        Ok(header)
    }

    /// The last page of the area; the first is 1, behind the header.
    pub fn last_page(&self) -> u32 {
        self.last_page
    }

    /// The pages that must not be used, as they are listed.
    pub fn bad_pages(&self) -> impl Iterator<Item = u32> + use<'a> {
        let page = self.page;
        (0..self.bad).map(move |i| number(page, BAD_AT + 4 * i))
    }

    fn is_bad(&self, page: u32) -> bool {
        self.bad_pages().any(|p| p == page)
    }

    /// The area's name among all areas.
    pub fn uuid(&self) -> Uuid {
        let mut u = [0; 16];
        u.copy_from_slice(&self.page[UUID_AT..UUID_AT + 16]);
        Uuid(u)
    }

    /// The label up to its first zero; `None` if it is empty or not UTF-8.
    pub fn label(&self) -> Option<&'a str> {
        let bytes = &self.page[LABEL_AT..LABEL_AT + 16];
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(16);
        core::str::from_utf8(&bytes[..end]).ok().filter(|s| !s.is_empty())
    }
}

/// A UUID, shown in the usual groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uuid(pub [u8; 16]);

impl core::fmt::Display for Uuid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (i, b) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

/// Why no header can be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormatError {
    /// Fewer than the ten pages that Linux asks for.
    TooSmall,
    /// More than 16 bytes.
    LabelTooLong,
}

/// The header that `mkswap -U uuid -L label` writes on a device of `pages` pages.
pub fn format(pages: u64, uuid: Uuid, label: &str) -> Result<[u8; PAGE], FormatError> {
    if pages < 10 {
        return Err(FormatError::TooSmall);
    }
    if label.len() > 16 {
        return Err(FormatError::LabelTooLong);
    }
    let mut page = [0; PAGE];
    // An area has at most 2³² pages; what is behind them stays unused.
    let last = u32::try_from(pages - 1).unwrap_or(u32::MAX);
    page[VERSION_AT..VERSION_AT + 4].copy_from_slice(&1u32.to_le_bytes());
    page[LAST_AT..LAST_AT + 4].copy_from_slice(&last.to_le_bytes());
    page[UUID_AT..UUID_AT + 16].copy_from_slice(&uuid.0);
    page[LABEL_AT..LABEL_AT + label.len()].copy_from_slice(label.as_bytes());
    page[SIGNATURE_AT..].copy_from_slice(SIGNATURE);
    Ok(page)
}
