//! Programs as files: ELF and Mach-O headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spawnfix_fuzz::binary::{Binary, of_bytes};
use std::os::unix::ffi::OsStrExt;

fuzz_target!(|bytes: &[u8]| {
    match of_bytes(bytes) {
        Binary::Elf(elf) => {
            assert!(bytes.starts_with(b"\x7fELF"));
            assert_eq!(elf.bits, if bytes[4] == 2 { 64 } else { 32 });
            let machine: [u8; 2] = bytes[18..20].try_into().expect("two bytes");
            let machine = if bytes[5] == 2 {
                u16::from_be_bytes(machine)
            } else {
                u16::from_le_bytes(machine)
            };
            assert_eq!(elf.machine, machine);
            if let Some(loader) = elf.loader {
                // It is in the file, as it stands there.
                let loader = loader.as_os_str().as_bytes();
                assert!(!loader.contains(&0) && memchr::memmem::find(bytes, loader).is_some());
            }
        }
        Binary::MachO => assert!(!bytes.starts_with(b"\x7fELF")),
        Binary::Other => {}
    }
});
