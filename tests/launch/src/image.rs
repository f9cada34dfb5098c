//! Jobs and files, packed as the cpio archive (`newc`) that QEMU hands to the kernel.
//!
//! Every file lies at the absolute path that it has on the host, so that a program finds in Quire what it would find
//! here. The file `quire.job` says what to run: NUL-terminated strings in pairs, a key and its value (`option`, then
//! for each job `job`, `arg`..., `env`..., `cwd`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// What every program finds in its environment, unless a job says otherwise.
const ENVIRONMENT: [&str; 5] = ["PATH=/usr/bin:/bin", "HOME=/", "TERM=dumb", "LANG=C", "USER=root"];

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;

/// One program to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// Absolute path, here and in the guest.
    program: PathBuf,
    /// `argv`, the program's own name first.
    arguments: Vec<OsString>,
    environment: Vec<OsString>,
    directory: PathBuf,
}

impl Job {
    /// Runs `program` (found here, in the current directory's terms) under the name `name`, which becomes `argv[0]`.
    /// The job's current directory is this process's.
    pub fn new(program: &Path, name: &OsStr) -> io::Result<Self> {
        Ok(Self {
            program: fs::canonicalize(program)?,
            arguments: vec![name.to_owned()],
            environment: ENVIRONMENT.iter().map(OsString::from).collect(),
            directory: std::env::current_dir()?,
        })
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets one `NAME=VALUE`, replacing an earlier one of the same name.
    #[must_use]
    pub fn env(mut self, setting: &OsStr) -> Self {
        let name = |setting: &OsStr| setting.as_bytes().split(|&byte| byte == b'=').next().map(<[u8]>::to_vec);
        self.environment.retain(|old| name(old) != name(setting));
        self.environment.push(setting.to_owned());
        self
    }
}

/// Everything that the guest gets.
#[derive(Clone, Debug, Default)]
pub struct Image {
    options: Vec<String>,
    jobs: Vec<Job>,
    /// Path in the guest to path here.
    files: BTreeMap<PathBuf, PathBuf>,
}

impl Image {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many jobs it holds.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Switches a kernel option on (`audit`, `stats`, `verbose`, `swap`, `swap-limit=SECONDS`).
    pub fn option(&mut self, name: impl Into<String>) {
        self.options.push(name.into());
    }

    /// Adds a job, its program, and, for a dynamically linked one, the interpreter and the libraries.
    pub fn job(&mut self, job: Job) -> io::Result<()> {
        self.files.insert(job.program.clone(), job.program.clone());
        for needed in dynamic_parts(&job.program)? {
            self.files.insert(needed.clone(), needed);
        }
        self.jobs.push(job);
        Ok(())
    }

    /// Adds a file, or a directory and all that is below it, at `guest` (an absolute path). Programs bring their interpreters and
    /// libraries. Links in a directory that lead nowhere are left out, as nobody can open them here either.
    pub fn file(&mut self, here: &Path, guest: &Path) -> io::Result<()> {
        let guest = absolute(guest)?;
        if fs::metadata(here).map_err(|error| named(here, &error))?.is_dir() {
            for entry in fs::read_dir(here)? {
                let entry = entry?;
                if entry.path().exists() {
                    self.file(&entry.path(), &guest.join(entry.file_name()))?;
                }
            }
        } else {
            self.files.insert(guest, here.to_owned());
            if fs::metadata(here)?.permissions().mode() & 0o111 != 0 && is_elf(here)? {
                for needed in dynamic_parts(here)? {
                    self.files.entry(needed.clone()).or_insert(needed);
                }
            }
        }
        Ok(())
    }

    /// Writes the archive.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        let mut directories = BTreeSet::new();
        for path in self.files.keys().map(PathBuf::as_path).chain(self.jobs.iter().map(|job| job.directory.as_path())) {
            directories.extend(path.ancestors().skip(1));
        }
        directories.extend(self.jobs.iter().map(|job| job.directory.as_path()));
        for directory in directories.into_iter().filter(|path| *path != Path::new("/")) {
            add(&mut to, directory, DIRECTORY, &[])?;
        }
        for (guest, here) in &self.files {
            let contents = fs::read(here).map_err(|error| named(here, &error))?;
            add(&mut to, guest, REGULAR | (fs::metadata(here)?.permissions().mode() & 0o7777), &contents)?;
        }
        add(&mut to, Path::new("/quire.job"), REGULAR | 0o444, &self.script())?;
        cpio::newc::trailer(&mut to)?;
        to.flush()
    }

    /// The contents of `quire.job`.
    fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        let mut pair = |key: &str, value: &OsStr| {
            for part in [key.as_bytes(), value.as_bytes()] {
                script.extend_from_slice(part);
                script.push(0);
            }
        };
        for option in &self.options {
            pair("option", OsStr::new(option));
        }
        for job in &self.jobs {
            pair("job", job.program.as_os_str());
            job.arguments.iter().for_each(|argument| pair("arg", argument));
            job.environment.iter().for_each(|setting| pair("env", setting));
            pair("cwd", job.directory.as_os_str());
        }
        script
    }
}

/// Adds one entry. Names in an initramfs carry no leading slash.
fn add(to: &mut impl Write, path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
    let name = std::str::from_utf8(name).map_err(|_| named(path, &io::Error::other("its name is not UTF-8")))?;
    let size = u32::try_from(contents.len()).map_err(|_| named(path, &io::Error::other("4 GiB or more")))?;
    let mut entry = cpio::newc::Builder::new(name).mode(mode).nlink(1).write(to, size);
    entry.write_all(contents)?;
    entry.finish().map(drop)
}

/// `path` as an absolute one without `.` and `..`, symbolic links left alone.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    let mut whole = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            other => whole.push(other),
        }
    }
    Ok(whole)
}

/// What a dynamically linked program needs: its interpreter, the libraries that `ldd` names, the loader's cache.
/// Empty for everything else, files that are no ELF files at all among them: to refuse those is the kernel's task.
fn dynamic_parts(program: &Path) -> io::Result<Vec<PathBuf>> {
    let contents = fs::read(program).map_err(|error| named(program, &error))?;
    let Some(interpreter) = interpreter(&contents) else { return Ok(Vec::new()) };
    let mut parts = vec![interpreter];
    let listing = Command::new("ldd").arg(program).output().map_err(|error| named(Path::new("ldd"), &error))?;
    for word in listing.stdout.split(|byte| byte.is_ascii_whitespace()).filter(|word| word.starts_with(b"/")) {
        parts.push(PathBuf::from(OsString::from_vec(word.to_vec())));
    }
    parts.push(PathBuf::from("/etc/ld.so.cache"));
    parts.retain(|part| part.exists());
    Ok(parts)
}

/// Whether a file is an ELF file, by its first bytes.
fn is_elf(path: &Path) -> io::Result<bool> {
    let mut magic = Vec::new();
    fs::File::open(path)?.take(4).read_to_end(&mut magic)?;
    Ok(magic == b"\x7fELF")
}

fn interpreter(contents: &[u8]) -> Option<PathBuf> {
    let file = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(contents).ok()?;
    let header = file.segments()?.iter().find(|header| header.p_type == elf::abi::PT_INTERP)?;
    let bytes = file.segment_data(&header).ok()?;
    let name = bytes.split(|&byte| byte == 0).next()?;
    Some(PathBuf::from(OsString::from_vec(name.to_vec())))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::io::Seek;

    fn unpack(image: &Image) -> HashMap<String, (u32, Vec<u8>)> {
        let mut archive = io::Cursor::new(Vec::new());
        image.write(&mut archive).unwrap();
        archive.rewind().unwrap();
        let mut found = HashMap::new();
        loop {
            let mut reader = cpio::NewcReader::new(archive).unwrap();
            if reader.entry().is_trailer() {
                return found;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut contents = Vec::new();
            reader.read_to_end(&mut contents).unwrap();
            found.insert(name, (mode, contents));
            archive = reader.finish().unwrap();
        }
    }

    #[test]
    fn programs_lie_at_their_own_paths_with_a_script() {
        let program = std::env::current_exe().unwrap();
        let mut image = Image::new();
        image.option("audit");
        image.job(Job::new(&program, OsStr::new("me")).unwrap().args(["a b", ""]).env(OsStr::new("HOME=/x"))).unwrap();
        let files = unpack(&image);
        let path = fs::canonicalize(&program).unwrap();
        assert_eq!(files[path.to_str().unwrap().trim_start_matches('/')].1, fs::read(&program).unwrap());
        let directory = std::env::current_dir().unwrap();
        let expected = format!(
            "option\0audit\0job\0{}\0arg\0me\0arg\0a b\0arg\0\0env\0PATH=/usr/bin:/bin\0env\0TERM=dumb\0env\0LANG=C\0\
             env\0USER=root\0env\0HOME=/x\0cwd\0{}\0",
            path.display(),
            directory.display()
        );
        assert_eq!(String::from_utf8_lossy(&files["quire.job"].1), expected);
        assert_eq!(files[directory.to_str().unwrap().trim_start_matches('/')].0 & 0o170_000, 0o040_000);
    }

    #[test]
    fn a_dynamic_program_brings_its_loader() {
        let mut image = Image::new();
        image.job(Job::new(Path::new("/bin/sh"), OsStr::new("sh")).unwrap()).unwrap();
        assert!(image.files.keys().any(|path| path.to_string_lossy().contains("ld-linux")));
        assert!(image.files.keys().any(|path| path.to_string_lossy().contains("libc.so")));
    }

    #[test]
    fn a_file_that_is_a_program_brings_its_loader_and_a_dead_link_is_left_out() {
        let directory = std::env::temp_dir().join(format!("quire-image-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::copy("/bin/sh", directory.join("shell")).unwrap();
        std::os::unix::fs::symlink("/nonexistent/file", directory.join("dead")).unwrap();
        let mut image = Image::new();
        let outcome = image.file(&directory, Path::new("/some/place"));
        fs::remove_dir_all(&directory).unwrap();
        outcome.unwrap();
        assert!(image.files.contains_key(Path::new("/some/place/shell")));
        assert!(!image.files.contains_key(Path::new("/some/place/dead")));
        assert!(image.files.keys().any(|path| path.to_string_lossy().contains("ld-linux")));
    }
}
