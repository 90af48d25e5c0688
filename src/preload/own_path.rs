//! The file that this library was loaded from, found between fork and exec: nothing allocates or takes a lock.

use std::ffi::{CStr, CString};

use crate::shared::internal_args::COMMAND_PLACES;
#[cfg(target_os = "linux")]
use crate::shared::paths;

/// A path on the stack, with a final 0 behind what is used.
pub struct PathBuffer {
    bytes: [u8; libc::PATH_MAX as usize],
    pub used: usize,
}

impl Default for PathBuffer {
    fn default() -> PathBuffer {
        PathBuffer {
            bytes: [0; libc::PATH_MAX as usize],
            used: 0,
        }
    }
}

impl PathBuffer {
    /// The path with this behind it, or `None` if that is too long.
    pub fn append(&mut self, bytes: &[u8]) -> Option<&CStr> {
        let end = self.used + bytes.len();
        *self.bytes.get_mut(end)? = 0;
        self.bytes[self.used..end].copy_from_slice(bytes);
        self.used = end;
        CStr::from_bytes_with_nul(&self.bytes[..=end]).ok()
    }
}

/// Between fork and exec: the directory of the file that this library was loaded from, with its final slash.
pub fn own_directory(path: &mut PathBuffer) -> Option<()> {
    own_file(path)?;
    while path.used > 0 && path.bytes[path.used - 1] != b'/' {
        path.used -= 1;
    }
    Some(())
}

/// The command, where the library finds it. Not for a forked child.
pub fn command() -> Option<CString> {
    let mut path = PathBuffer::default();
    own_directory(&mut path)?;
    let directory = path.used;
    COMMAND_PLACES.iter().find_map(|place| {
        path.used = directory;
        let file = path.append(place.as_bytes())?;
        // SAFETY: access takes a C string.
        (unsafe { libc::access(file.as_ptr(), libc::X_OK) } == 0).then(|| file.to_owned())
    })
}

/// Between fork and exec: the file that this library was loaded from. dladdr would take the dynamic linker's lock here,
/// and would cost each process something at load.
fn own_file(path: &mut PathBuffer) -> Option<()> {
    let own = own_file as *const () as usize;
    #[cfg(target_vendor = "apple")]
    {
        path.used = super::macos::file_of_code(own, &mut path.bytes)?;
        Some(())
    }
    #[cfg(target_os = "linux")]
    // SAFETY: the path is a C string; the descriptor was opened here; `chunk` has the length that is given.
    unsafe {
        let maps = libc::open(
            c"/proc/self/maps".as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        );
        let mut chunk = [0; 512];
        let found = loop {
            let count = libc::read(maps, chunk.as_mut_ptr().cast(), chunk.len());
            let Some(read) = usize::try_from(count).ok().filter(|count| *count > 0) else {
                break None;
            };
            if chunk[..read].iter().any(|&byte| path.take(byte, own)) {
                break Some(());
            }
        };
        libc::close(maps);
        found
    }
}

#[cfg(target_os = "linux")]
impl PathBuffer {
    /// Takes one byte of /proc/self/maps. True: a line has ended which names the file that is mapped at this address,
    /// and that path is all that the buffer has now.
    fn take(&mut self, byte: u8, address: usize) -> bool {
        if byte != b'\n' {
            // A line that is too long is cut, and names no file of ours.
            let _ = self.append(&[byte]);
            return false;
        }
        let range = file_at(&self.bytes[..self.used], address);
        self.used = range.clone().map_or(0, |range| range.len());
        if let Some(range) = range.clone() {
            self.bytes.copy_within(range, 0);
        }
        range.is_some()
    }
}

/// Where the file's path is in this line of /proc/PID/maps (proc(5)), if it is mapped at this address.
#[cfg(target_os = "linux")]
pub fn file_at(line: &[u8], address: usize) -> Option<std::ops::Range<usize>> {
    let number = |text: &[u8]| usize::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok();
    let dash = line.iter().position(|&byte| byte == b'-')?;
    let blank = line.iter().position(|&byte| byte == b' ')?;
    let range = number(&line[..dash])?..number(line.get(dash + 1..blank)?)?;
    if !range.contains(&address) {
        return None;
    }
    let start = line.iter().position(|&byte| byte == b'/')?;
    Some(start..start + paths::without_deleted(&line[start..]).len())
}

#[cfg(all(test, target_os = "linux"))]
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
        let mut path = PathBuffer::default();
        own_file(&mut path).unwrap();
        let own = std::env::current_exe().unwrap();
        assert_eq!(OsStr::from_bytes(&path.bytes[..path.used]), own.as_os_str());
    }
}
