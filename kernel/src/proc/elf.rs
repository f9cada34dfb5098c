//! Reading an ELF file: everything is checked here, so that loading only maps.

use crate::fs::Regular;
use crate::mem::Prot;
use crate::mem::user::USER_END;
use alloc::sync::Arc;
use alloc::vec::Vec;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;
use quire_base::errno::{ENOEXEC, ENOMEM, Errno};

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

/// A checked program file.
pub struct Program {
    /// The file.
    pub file: Arc<Regular>,
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

impl Program {
    /// Bytes from the start of its lowest page to its end.
    pub fn span(&self) -> u64 {
        let low = self.pieces.first().map_or(0, |p| p.address & !4095);
        self.pieces.last().map_or(0, |p| p.address + p.memory_size - low)
    }
}

/// Why a file is not a program: the line for the log.
pub struct Malformed(pub &'static str);

/// Largest table of program headers, as on Linux.
const TABLE_LIMIT: usize = 65536;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Checks `file`. The error says what is wrong; its number is always ENOEXEC (or ENOMEM).
pub fn read(file: &Arc<Regular>, path: &Arc<[u8]>) -> Result<Program, Errno> {
    match parse(file, path) {
        Ok(program) => Ok(program),
        Err(Malformed("")) => Err(ENOMEM),
        Err(Malformed(why)) => {
            log::info!("exec: {}: not a program: {why}", crate::fs::Printable(path));
            Err(ENOEXEC)
        }
    }
}

fn parse(file: &Arc<Regular>, path: &Arc<[u8]>) -> Result<Program, Malformed> {
    let mut head = [0u8; HEADER];
    if file.read_at(0, &mut head).unwrap_or(0) < HEADER {
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
    if header.e_phoff.checked_add(table.len() as u64).is_none_or(|end| end > file.len()) {
        return Err(Malformed("program headers outside the file"));
    }
    if file.read_at(header.e_phoff, &mut table).unwrap_or(0) < table.len() {
        return Err(Malformed("program headers outside the file"));
    }

    let mut program = Program {
        file: file.clone(),
        path: path.clone(),
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
            abi::PT_LOAD => load(&mut program, file, &h)?,
            abi::PT_INTERP if program.interpreter.is_none() => program.interpreter = Some(interpreter(file, &h)?),
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

fn load(program: &mut Program, file: &Regular, h: &ProgramHeader) -> Result<(), Malformed> {
    if h.p_memsz == 0 {
        return Ok(());
    }
    if h.p_filesz > h.p_memsz {
        return Err(Malformed("segment larger in the file than in memory"));
    }
    if h.p_offset.checked_add(h.p_filesz).is_none_or(|end| end > file.len()) {
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

fn interpreter(file: &Regular, h: &ProgramHeader) -> Result<Vec<u8>, Malformed> {
    let size = h.p_filesz as usize;
    if !(2..=4096).contains(&size) {
        return Err(Malformed("bad interpreter path"));
    }
    let mut path = Vec::new();
    path.try_reserve_exact(size).map_err(|_| Malformed(""))?;
    path.resize(size, 0);
    if file.read_at(h.p_offset, &mut path).unwrap_or(0) < size || path.pop() != Some(0) {
        return Err(Malformed("bad interpreter path"));
    }
    Ok(path)
}
