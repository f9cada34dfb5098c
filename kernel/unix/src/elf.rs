//! Reading an ELF file: everything is checked here, so that loading only maps.

use alloc::sync::Arc;
use alloc::vec::Vec;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;
use quire_base::layout::USER_END;
use quire_mm::Prot;

/// One loadable piece, addresses before the bias.
#[derive(Clone, Copy)]
pub struct Piece {
    /// Address of its first byte.
    pub address: u64,
    /// Where that byte is in the file.
    pub offset: u64,
    /// Bytes from the file.
    pub file_size: u64,
    /// Bytes in memory; those behind the file's are zero.
    pub memory_size: u64,
    /// What it grants.
    pub prot: Prot,
}

/// A file to read.
pub trait Source {
    /// Its length.
    fn size(&self) -> u64;
    /// Reads bytes from `at` on; how many there were.
    fn read_at(&self, at: u64, to: &mut [u8]) -> usize;
}

impl<S: Source> Source for Arc<S> {
    fn size(&self) -> u64 {
        (**self).size()
    }
    fn read_at(&self, at: u64, to: &mut [u8]) -> usize {
        (**self).read_at(at, to)
    }
}

/// A checked program file.
pub struct Program<F> {
    /// The file.
    pub file: F,
    /// Its path.
    pub path: Arc<[u8]>,
    /// What to map, in rising order of address.
    pub pieces: Vec<Piece>,
    /// First instruction, before the bias.
    pub entry: u64,
    /// Whether it may be put anywhere.
    pub relocatable: bool,
    /// Largest alignment of a piece.
    pub align: u64,
    /// Address of the program headers in memory, before the bias (0: not loaded).
    pub headers: u64,
    /// Number of program headers.
    pub header_count: u64,
    /// Path of the interpreter.
    pub interpreter: Option<Vec<u8>>,
    /// Whether the stack must be executable.
    pub exec_stack: bool,
}

impl<F> Program<F> {
    /// Bytes from the start of its lowest page to its end.
    pub fn span(&self) -> u64 {
        let low = self.pieces.first().map_or(0, |p| p.address & !4095);
        self.pieces.last().map_or(0, |p| p.address + p.memory_size - low)
    }
}

/// Why a file is not a program: the line for the log. An empty one: there is no memory to look.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Largest table of program headers, as on Linux.
const TABLE_LIMIT: usize = 65536;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Checks a program's file, of this path.
pub fn parse<F: Source>(file: F, path: Arc<[u8]>) -> Result<Program<F>, Malformed> {
    let mut head = [0u8; HEADER];
    if file.read_at(0, &mut head) < HEADER {
        return Err(Malformed("shorter than an ELF header"));
    }
    if head[..4] != abi::ELFMAGIC {
        return Err(Malformed("no ELF magic"));
    }
    let ident = parse_ident::<LittleEndian>(&head).map_err(|_| Malformed("not a little-endian ELF file"))?;
    if ident.1 != Class::ELF64 {
        return Err(Malformed("not 64-bit"));
    }
    let header = FileHeader::<LittleEndian>::parse_tail(ident, &head[16..]).map_err(|_| Malformed("bad ELF header"))?;
    if header.e_machine != abi::EM_X86_64 {
        return Err(Malformed("not for x86-64"));
    }
    if header.e_type != abi::ET_EXEC && header.e_type != abi::ET_DYN {
        return Err(Malformed("neither an executable nor position-independent"));
    }
    let count = header.e_phnum as usize;
    if header.e_phentsize as usize != PROGRAM_HEADER || count == 0 || count * PROGRAM_HEADER > TABLE_LIMIT {
        return Err(Malformed("bad size of the program header table"));
    }
    let mut table = Vec::new();
    table.try_reserve_exact(count * PROGRAM_HEADER).map_err(|_| Malformed(""))?;
    table.resize(count * PROGRAM_HEADER, 0);
    if header.e_phoff.checked_add(table.len() as u64).is_none_or(|end| end > file.size()) {
        return Err(Malformed("program headers outside the file"));
    }
    if file.read_at(header.e_phoff, &mut table) < table.len() {
        return Err(Malformed("program headers outside the file"));
    }

    let mut program = Program {
        file,
        path,
        pieces: Vec::new(),
        entry: header.e_entry,
        relocatable: header.e_type == abi::ET_DYN,
        align: 4096,
        headers: 0,
        header_count: count as u64,
        interpreter: None,
        exec_stack: false,
    };
    let mut at = 0;
    while at < table.len() {
        let h = ProgramHeader::parse_at(LittleEndian, Class::ELF64, &mut at, &table)
            .map_err(|_| Malformed("bad program header"))?;
        match h.p_type {
            abi::PT_LOAD => load(&mut program, &h)?,
            abi::PT_INTERP if program.interpreter.is_none() => {
                program.interpreter = Some(interpreter(&program.file, &h)?)
            }
            abi::PT_GNU_STACK => program.exec_stack = h.p_flags & abi::PF_X != 0,
            _ => {}
        }
    }
    let Some(first) = program.pieces.first() else { return Err(Malformed("nothing to load")) };
    if program.pieces.windows(2).any(|w| w[1].address < w[0].address + w[0].memory_size) {
        return Err(Malformed("overlapping or unordered segments"));
    }
    let low = first.address;
    let high = program.pieces.last().map_or(low, |p| p.address + p.memory_size);
    if high - low > USER_END as u64 / 2 {
        return Err(Malformed("larger than the address space"));
    }
    let holds = |at: u64| program.pieces.iter().any(|p| p.address <= at && at - p.address < p.memory_size);
    if !holds(program.entry) && program.interpreter.is_none() {
        return Err(Malformed("entry point outside every segment"));
    }
    let table_at = |p: &&Piece| p.offset <= header.e_phoff && header.e_phoff - p.offset < p.file_size;
    program.headers = program.pieces.iter().find(table_at).map_or(0, |p| header.e_phoff - p.offset + p.address);
    Ok(program)
}

fn load<F: Source>(program: &mut Program<F>, h: &ProgramHeader) -> Result<(), Malformed> {
    if h.p_memsz == 0 {
        return Ok(());
    }
    if h.p_filesz > h.p_memsz {
        return Err(Malformed("segment larger in the file than in memory"));
    }
    if h.p_offset.checked_add(h.p_filesz).is_none_or(|end| end > program.file.size()) {
        return Err(Malformed("segment outside the file"));
    }
    if h.p_vaddr.checked_add(h.p_memsz).is_none_or(|end| end > USER_END as u64) {
        return Err(Malformed("segment outside the address space"));
    }
    if !program.relocatable && h.p_vaddr < 0x1_0000 {
        return Err(Malformed("segment at address zero"));
    }
    if h.p_vaddr % 4096 != h.p_offset % 4096 {
        return Err(Malformed("segment misaligned in the file"));
    }
    if h.p_align > 1 {
        if !h.p_align.is_power_of_two() || h.p_align > 1 << 30 {
            return Err(Malformed("bad segment alignment"));
        }
        program.align = program.align.max(h.p_align);
    }
    let mut prot = Prot::empty();
    prot.set(Prot::READ, h.p_flags & abi::PF_R != 0);
    prot.set(Prot::WRITE, h.p_flags & abi::PF_W != 0);
    prot.set(Prot::EXEC, h.p_flags & abi::PF_X != 0);
    program.pieces.try_reserve(1).map_err(|_| Malformed(""))?;
    program.pieces.push(Piece {
        address: h.p_vaddr,
        offset: h.p_offset,
        file_size: h.p_filesz,
        memory_size: h.p_memsz,
        prot,
    });
    Ok(())
}

fn interpreter(file: &impl Source, h: &ProgramHeader) -> Result<Vec<u8>, Malformed> {
    let size = h.p_filesz as usize;
    if !(2..=4096).contains(&size) {
        return Err(Malformed("bad interpreter path"));
    }
    let mut path = Vec::new();
    path.try_reserve_exact(size).map_err(|_| Malformed(""))?;
    path.resize(size, 0);
    if file.read_at(h.p_offset, &mut path) < size || path.pop() != Some(0) {
        return Err(Malformed("bad interpreter path"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    impl Source for Vec<u8> {
        fn size(&self) -> u64 {
            self.len() as u64
        }
        fn read_at(&self, at: u64, to: &mut [u8]) -> usize {
            let from = self.get(at as usize..).unwrap_or_default();
            let n = from.len().min(to.len());
            to[..n].copy_from_slice(&from[..n]);
            n
        }
    }

    /// One program header: type, flags, offset, address, size in the file and in memory, alignment.
    type Header = (u32, u32, u64, u64, u64, u64, u64);

    fn file(kind: u16, entry: u64, headers: &[Header], len: usize) -> Vec<u8> {
        let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        out.extend([kind.to_le_bytes(), abi::EM_X86_64.to_le_bytes()].concat());
        out.extend(1u32.to_le_bytes());
        out.extend([entry, HEADER as u64, 0].iter().flat_map(|word| word.to_le_bytes()));
        out.extend(0u32.to_le_bytes());
        let halves = [HEADER as u16, PROGRAM_HEADER as u16, headers.len() as u16, 0, 0, 0];
        out.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        for &(kind, flags, offset, address, file_size, memory_size, align) in headers {
            out.extend([kind.to_le_bytes(), flags.to_le_bytes()].concat());
            let words = [offset, address, address, file_size, memory_size, align];
            out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        out.resize(len, 0);
        out
    }

    fn check(file: Vec<u8>) -> Result<Program<Vec<u8>>, Malformed> {
        parse(file, Arc::from(&b"a"[..]))
    }

    const TEXT: Header = (abi::PT_LOAD, abi::PF_R | abi::PF_X, 0, 0x40_0000, 0x1000, 0x1000, 0x1000);
    const DATA: Header = (abi::PT_LOAD, abi::PF_R | abi::PF_W, 0x1800, 0x40_2800, 0x100, 0x900, 0x1000);

    #[test]
    fn a_program_is_read() {
        let program = check(file(abi::ET_EXEC, 0x40_0100, &[TEXT, DATA], 0x2000))
            .unwrap_or_else(|Malformed(why)| panic!("{why}"));
        assert_eq!((program.entry, program.relocatable, program.align), (0x40_0100, false, 4096));
        assert_eq!((program.headers, program.header_count), (0x40_0040, 2));
        assert_eq!(program.span(), 0x3100);
        assert_eq!(program.pieces[1].prot, Prot::READ | Prot::WRITE);
        assert_eq!((program.interpreter, program.exec_stack), (None, false));
    }

    #[test]
    fn an_interpreter_is_a_string_with_its_end() {
        let of = |text: &[u8]| {
            let header = (abi::PT_INTERP, 0, 0x1f00, 0, text.len() as u64, 0, 1);
            let mut bytes = file(abi::ET_DYN, 0, &[header, TEXT], 0x2000);
            bytes[0x1f00..][..text.len()].copy_from_slice(text);
            check(bytes).map(|program| program.interpreter)
        };
        assert_eq!(of(b"/ld.so\0"), Ok(Some(b"/ld.so".to_vec())));
        assert_eq!(of(b"/ld.so").err(), Some(Malformed("bad interpreter path")));
        assert_eq!(of(b"\0").err(), Some(Malformed("bad interpreter path")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let one = |change: fn(&mut Header)| {
            let mut header = DATA;
            change(&mut header);
            check(file(abi::ET_EXEC, 0x40_0100, &[TEXT, header], 0x2000)).err().map_or("", |why| why.0)
        };
        assert_eq!(one(|_| {}), "");
        assert_eq!(one(|h| h.2 = u64::MAX), "segment outside the file");
        assert_eq!(one(|h| h.4 = 0x901), "segment larger in the file than in memory");
        assert_eq!(one(|h| h.3 = USER_END as u64 - 0x800), "segment outside the address space");
        assert_eq!(one(|h| h.5 = u64::MAX), "segment outside the address space");
        assert_eq!(one(|h| h.3 = 0x800), "segment at address zero");
        assert_eq!(one(|h| h.3 += 1), "segment misaligned in the file");
        assert_eq!(one(|h| h.6 = 3), "bad segment alignment");
        assert_eq!(one(|h| h.3 = 0x40_0800), "overlapping or unordered segments");
        let of = |bytes: Vec<u8>| check(bytes).err().map_or("", |why| why.0);
        let good = file(abi::ET_EXEC, 0x40_0100, &[TEXT], 0x1000);
        assert_eq!(of(good[..63].to_vec()), "shorter than an ELF header");
        assert_eq!(of(good[..100].to_vec()), "program headers outside the file");
        assert_eq!(of(file(abi::ET_EXEC, 0x50_0000, &[TEXT], 0x1000)), "entry point outside every segment");
        assert_eq!(of(file(abi::ET_EXEC, 0, &[], 0x1000)), "bad size of the program header table");
        assert_eq!(of(file(abi::ET_REL, 0x40_0100, &[TEXT], 0x1000)), "neither an executable nor position-independent");
    }

    #[test]
    fn no_change_of_a_byte_makes_it_fall_over() {
        let good = file(abi::ET_EXEC, 0x40_0100, &[TEXT, DATA], 0x2000);
        for at in 0..HEADER + 2 * PROGRAM_HEADER {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(program) = check(bytes) {
                    let end = program.pieces.iter().map(|p| p.address + p.memory_size).max();
                    assert!(end.is_some_and(|end| end <= USER_END as u64 && program.span() <= end));
                }
            }
        }
    }
}
