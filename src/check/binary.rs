//! Programs as files: what an ELF or Mach-O file says of itself.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind, Object, ObjectSection, elf};

use crate::shared::internal_args::VERSION_SECTION;

/// What a file is.
#[derive(Debug, PartialEq, Eq)]
pub enum Binary {
    Elf(Elf),
    /// Of one kind of processor, or of several.
    MachO,
    Other,
}

/// An ELF file.
#[derive(Debug, PartialEq, Eq)]
pub struct Elf {
    /// 32 or 64.
    pub bits: u8,
    /// The kind of processor: e_machine.
    pub machine: u16,
    /// The dynamic loader that it asks for (PT_INTERP). `None`: it is static.
    pub loader: Option<PathBuf>,
}

/// Reads what a file is.
pub fn read(file: &Path) -> io::Result<Binary> {
    Ok(of_bytes(&fs::read(file)?))
}

/// What these bytes of a file are.
pub fn of_bytes(bytes: &[u8]) -> Binary {
    let elf = match FileKind::parse(bytes) {
        Ok(FileKind::Elf32) => of_elf::<elf::FileHeader32<Endianness>>(bytes),
        Ok(FileKind::Elf64) => of_elf::<elf::FileHeader64<Endianness>>(bytes),
        Ok(FileKind::MachO32 | FileKind::MachO64 | FileKind::MachOFat32 | FileKind::MachOFat64) => {
            return Binary::MachO;
        }
        _ => return Binary::Other,
    };
    elf.map_or(Binary::Other, Binary::Elf)
}

fn of_elf<Header: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> object::Result<Elf> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    // A file that says it is of the other width has no program headers where it says.
    let segments = header.program_headers(endian, bytes).unwrap_or_default();
    let mut loaders = segments
        .iter()
        .filter_map(|segment| segment.interpreter(endian, bytes).ok()?);
    Ok(Elf {
        bits: if header.is_class_64() { 64 } else { 32 },
        machine: header.e_machine(endian),
        loader: loaders.next().map(|path| OsStr::from_bytes(path).into()),
    })
}

/// The version of a library's file, from its note: [`VERSION_SECTION`].
pub fn library_version(file: &Path) -> Option<String> {
    let bytes = fs::read(file).ok()?;
    let object = object::File::parse(&*bytes).ok()?;
    let note = object.section_by_name(VERSION_SECTION)?.data().ok()?;
    // Three words, of which the second is the length of the version, then "spawnfix", padded.
    let length = u32::from_ne_bytes(note.get(4..8)?.try_into().ok()?);
    let version = note.get(24..)?.get(..length as usize)?;
    Some(std::str::from_utf8(version).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_program_is_a_dynamic_one_of_this_machine() {
        let own = read(&std::env::current_exe().unwrap()).unwrap();
        match own {
            Binary::Elf(elf) => {
                assert_eq!(u32::from(elf.bits), usize::BITS);
                assert!(elf.loader.is_some_and(|loader| loader.exists()));
            }
            other => assert!(cfg!(target_os = "macos") && other == Binary::MachO),
        }
    }

    proptest! {
        #[test]
        fn no_file_is_too_odd_to_be_read(mut bytes: Vec<u8>, kind in 0..4_usize) {
            let magic: [&[u8]; 4] = [b"", b"\x7fELF\x02\x01\x01", b"\x7fELF\x01\x02\x01", b"\xcf\xfa\xed\xfe"];
            bytes.splice(..0, magic[kind].iter().copied());
            of_bytes(&bytes);
        }
    }
}
