//! The file that this library was loaded from, and the command near it. What runs between fork and exec neither allocates nor
//! takes a lock.

use std::ffi::{CStr, CString};

use crate::preload::stack_buffer::StackBuffer;
use crate::shared::internal_args::COMMAND_PLACES;
#[cfg(target_os = "linux")]
use crate::shared::paths;

/// A path, or a line of /proc/self/maps.
type Path = StackBuffer<{ libc::PATH_MAX as usize }>;

/// Between fork and exec: calls this with each path that the command may have, until it gives something.
pub fn find_command<T>(mut attempt: impl FnMut(&CStr) -> Option<T>) -> Option<T> {
    let mut path = own_file()?;
    let directory = path.bytes().iter().rposition(|&byte| byte == b'/')? + 1;
    COMMAND_PLACES.iter().find_map(|place| {
        path.keep(0..directory);
        path.append(place.as_bytes())?;
        attempt(path.c_str()?)
    })
}

/// The command, where the library finds it. Not for a forked child.
pub fn command() -> Option<CString> {
    // SAFETY: access takes a C string.
    let is_there = |file: &CStr| unsafe { libc::access(file.as_ptr(), libc::X_OK) } == 0;
    find_command(|file| is_there(file).then(|| file.to_owned()))
}

/// Between fork and exec: the file that this library was loaded from. dladdr would take the dynamic linker's lock here,
/// and would cost each process something at load.
fn own_file() -> Option<Path> {
    let own = own_file as *const () as usize;
    let mut path = Path::new();
    #[cfg(target_vendor = "apple")]
    {
        let length = super::macos::file_of_code(own, path.space())?;
        path.keep(0..length);
        Some(path)
    }
    #[cfg(target_os = "linux")]
    // SAFETY: the path is a C string; the descriptor was opened here; `chunk` has the length that is given.
    unsafe {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let maps = libc::open(c"/proc/self/maps".as_ptr(), flags);
        let mut chunk = [0; 512];
        let found = loop {
            let count = libc::read(maps, chunk.as_mut_ptr().cast(), chunk.len());
            let Some(read) = usize::try_from(count).ok().filter(|count| *count > 0) else {
                break false;
            };
            if chunk[..read].iter().any(|&byte| take(&mut path, byte, own)) {
                break true;
            }
        };
        libc::close(maps);
        found.then_some(path)
    }
}

/// Takes one byte of /proc/self/maps. True: a line has ended which names the file that is mapped at this address, and the
/// buffer has that path.
#[cfg(target_os = "linux")]
fn take(line: &mut Path, byte: u8, address: usize) -> bool {
    if byte != b'\n' {
        // A line that is too long is cut, and names no file of ours.
        let _ = line.append(&[byte]);
        return false;
    }
    let file = file_at(line.bytes(), address);
    line.keep(file.clone().unwrap_or(0..0));
    file.is_some()
}

/// Where the file's path is in this line of /proc/PID/maps (proc(5)), if it is mapped at this address.
#[cfg(target_os = "linux")]
pub fn file_at(line: &[u8], address: usize) -> Option<std::ops::Range<usize>> {
    let number = |text: &[u8]| usize::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok();
    let dash = line.iter().position(|&byte| byte == b'-')?;
    let blank = line.iter().position(|&byte| byte == b' ')?;
    let range = number(&line[..dash])?..number(line.get(dash + 1..blank)?)?;
    let start = line.iter().position(|&byte| byte == b'/')?;
    let length = paths::without_deleted(&line[start..]).len();
    range.contains(&address).then_some(start..start + length)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn the_librarys_file_is_found_where_it_is_mapped() {
        let file = |line: &str| {
            let range = file_at(line.as_bytes(), 0x7f12_3456_7890)?;
            Some(line[range].to_owned())
        };
        let mapped = "7f1234560000-7f1234570000 r-xp 00001000 fe:00 1311 ";
        let expected = Some("/opt/a b/libspawnfix.so".to_owned());
        assert_eq!(
            file(&format!("{mapped}      /opt/a b/libspawnfix.so")),
            expected
        );
        assert_eq!(
            file(&format!("{mapped} /opt/a b/libspawnfix.so (deleted)")),
            expected
        );
        assert_eq!(file(mapped), None);
        assert_eq!(
            file("7f1234570000-7f1234580000 r-xp 0 fe:00 1 /opt/other.so"),
            None
        );
        assert_eq!(
            file("ffffffffff600000-ffffffffff601000 --xp 0 00:00 0 [vsyscall]"),
            None
        );
        assert_eq!(file("nonsense"), None);
        assert_eq!(file(""), None);
    }

    #[test]
    fn a_process_finds_its_own_file() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(
            OsStr::from_bytes(own_file().unwrap().bytes()),
            own.as_os_str()
        );
    }
}
