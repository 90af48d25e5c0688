//! Which MPI the program has, and its real functions.

use std::ffi::{CStr, CString};
use std::fmt;
use std::num::NonZeroUsize;

use libc::{c_char, c_int, c_void};
use once_cell::race::OnceNonZeroUsize;

use crate::logging::Escaped;

/// MPI libraries as far as their way of launching differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// MPICH, and those that keep its name in theirs, as Cray's.
    Mpich,
    Intel,
    Mvapich,
    OpenMpi,
    Unknown,
}

/// An MPI library, by its own account.
#[derive(Debug)]
pub struct Mpi {
    pub family: Family,
    /// Its version, as far as it is numbers: 4.3.2, 2021.13.
    pub version: Vec<u32>,
    /// Its name and version, as a person would say them.
    name: String,
}

/// MPI_MAX_LIBRARY_VERSION_STRING, the largest there is: MPICH's and the standard ABI's.
const VERSION_SIZE: usize = 8192;

impl Mpi {
    /// Asks the program's MPI library, which may be asked at any time, also before MPI_Init.
    pub fn of_this_program() -> Mpi {
        type GetLibraryVersion = unsafe extern "C-unwind" fn(*mut c_char, *mut c_int) -> c_int;
        static REAL: OnceNonZeroUsize = OnceNonZeroUsize::new();
        let Some(address) = real("MPI_Get_library_version", &REAL) else {
            return Mpi::named(b"");
        };
        // SAFETY: the address is that of MPI_Get_library_version, whose C prototype this is.
        let get = unsafe { std::mem::transmute::<usize, GetLibraryVersion>(address.get()) };
        let mut text = [0u8; VERSION_SIZE];
        let mut length: c_int = 0;
        // SAFETY: the buffer has the size that the MPI standard asks for; both pointers are good for the call.
        let code = unsafe { get(text.as_mut_ptr().cast(), &mut length) };
        let length = usize::try_from(length).unwrap_or(0).min(VERSION_SIZE);
        Mpi::named(if code == 0 { &text[..length] } else { b"" })
    }

    /// The library that names itself so.
    pub fn named(text: &[u8]) -> Mpi {
        let text = String::from_utf8_lossy(text);
        let text = text.trim_end_matches('\0').trim();
        // In this order: Intel's and MVAPICH's texts may mention MPICH too.
        let known = [
            (Family::OpenMpi, "Open MPI", "Open MPI"),
            (Family::Intel, "Intel(R) MPI", "Intel MPI"),
            (Family::Mvapich, "MVAPICH", "MVAPICH"),
            (Family::Mpich, "CRAY MPICH", "Cray MPICH"),
            (Family::Mpich, "MPICH", "MPICH"),
        ];
        let mut matching = known
            .into_iter()
            .filter_map(|(family, mark, name)| Some((family, text.split_once(mark)?.1, name)));
        let Some((family, rest, name)) = matching.next() else {
            let name = match text.lines().next() {
                None => "an MPI that does not tell its name".to_owned(),
                Some(line) => {
                    let short: String = line.chars().take(80).collect();
                    format!("an MPI unknown to spawnfix ({})", Escaped(short.as_bytes()))
                }
            };
            return Mpi {
                family: Family::Unknown,
                version: Vec::new(),
                name,
            };
        };
        let version = rest
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
            .map(|word| word.trim_start_matches('v'))
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
        Mpi {
            family,
            version: version
                .unwrap_or_default()
                .split('.')
                .map_while(|part| part.parse().ok())
                .collect(),
            name: format!("{name} {}", version.unwrap_or("of an unknown version")),
        }
    }

    /// Whether MPI_Init launches, before any spawn, in a program that was started without mpiexec: so do versions 2 to 4
    /// of Open MPI (fork_hnp in orte/mca/ess/singleton/ess_singleton_module.c).
    pub fn launches_at_init(&self) -> bool {
        self.family == Family::OpenMpi && matches!(self.version[..], [2..=4, ..])
    }
}

impl fmt::Display for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The function that the dynamic linker would have bound without us, or `None` if no MPI is loaded.
///
/// Where several loaded libraries define it, the first is taken and a warning names them. What was found is kept
/// in `known`; that there is none is not, as an MPI may be loaded later.
pub fn real(name: &str, known: &OnceNonZeroUsize) -> Option<NonZeroUsize> {
    if let Some(address) = known.get() {
        return Some(address);
    }
    let found = find(&CString::new(name).ok()?);
    if found.len() > 1 {
        let objects: Vec<_> = found.iter().map(|address| object(*address)).collect();
        log::warn!(
            "{name} is defined by several loaded libraries; the first is called: {}",
            objects.join(", ")
        );
    }
    let address = NonZeroUsize::new(found.first()?.addr())?;
    Some(known.get_or_init(|| address))
}

/// The distinct definitions of an MPI function in this process, ours left out, in the linker's order: what
/// RTLD_NEXT gives, then what each loaded object and its dependencies see, in load order.
///
/// RTLD_NEXT alone is not enough: a libmpi that came with a dlopen(RTLD_LOCAL), as Python's does, is not in it.
fn find(name: &CStr) -> Vec<*mut c_void> {
    let mut found: Vec<*mut c_void> = Vec::new();
    let mut add = |address: *mut c_void| {
        let new = !address.is_null() && !is_ours(address) && !found.contains(&address);
        if new {
            found.push(address);
        }
        new
    };
    // SAFETY: `name` is a C string.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if add(next) {
        // The global scope decides; another library could only be reached through a handle of its own.
        return found;
    }
    for object in loaded_objects() {
        // SAFETY: `object` is a C string. RTLD_NOLOAD: no constructor runs, at most a reference is added.
        unsafe {
            let handle = libc::dlopen(object.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            // The handle of an object that defines it is kept: its address must stay good.
            if !handle.is_null() && !add(libc::dlsym(handle, name.as_ptr())) {
                libc::dlclose(handle);
            }
        }
    }
    found
}

/// Whether this address lies in this library.
fn is_ours(address: *mut c_void) -> bool {
    let base = |address: *const c_void| {
        // SAFETY: all zeroes is a Dl_info, of integers and pointers; dladdr takes any address.
        let info = unsafe {
            let mut info: libc::Dl_info = std::mem::zeroed();
            libc::dladdr(address, &mut info);
            info
        };
        info.dli_fbase
    };
    base(address) == base(is_ours as *const c_void)
}

/// The file that an address was loaded from.
fn object(address: *mut c_void) -> String {
    // SAFETY: all zeroes is a Dl_info; dladdr takes any address; the name it gives is a C string that stays as
    // long as the object is loaded, which the kept handle sees to.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address, &mut info) == 0 || info.dli_fname.is_null() {
            return format!("{address:?}");
        }
        Escaped(CStr::from_ptr(info.dli_fname).to_bytes()).to_string()
    }
}

/// The file names of all loaded objects, in load order. The main program, which has none, is left out: were the
/// function its own, this library would not have been called.
fn loaded_objects() -> Vec<CString> {
    let mut names = Vec::new();
    #[cfg(target_os = "linux")]
    {
        unsafe extern "C" fn note(
            info: *mut libc::dl_phdr_info,
            _: usize,
            names: *mut c_void,
        ) -> c_int {
            // SAFETY: dl_iterate_phdr hands over a good info, and the `names` that it was given below.
            unsafe {
                let (name, names) = ((*info).dlpi_name, &mut *names.cast::<Vec<CString>>());
                if !name.is_null() && *name != 0 {
                    names.push(CStr::from_ptr(name).to_owned());
                }
            }
            0
        }
        // SAFETY: `note` has the callback's prototype, and `names` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(note), std::ptr::from_mut(&mut names).cast()) };
    }
    #[cfg(target_vendor = "apple")]
    {
        unsafe extern "C" {
            fn _dyld_image_count() -> u32;
            fn _dyld_get_image_name(index: u32) -> *const c_char;
        }
        // SAFETY: an index that has meanwhile gone gives null; a name stays as long as its image does, and one
        // that is unloaded by another thread just now is the program's own race with its MPI call.
        unsafe {
            for index in 1.._dyld_image_count() {
                let name = _dyld_get_image_name(index);
                if !name.is_null() {
                    names.push(CStr::from_ptr(name).to_owned());
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, family: Family, name: &str) {
        let mpi = Mpi::named(text.as_bytes());
        assert_eq!((mpi.family, mpi.to_string().as_str()), (family, name));
    }

    #[test]
    fn libraries_are_known_by_what_they_say_of_themselves() {
        check(
            "MPICH Version:      4.2.3\nMPICH Release date: Thu",
            Family::Mpich,
            "MPICH 4.2.3",
        );
        check("MPICH Version:\t5.0.0b1\n", Family::Mpich, "MPICH 5.0.0b1");
        check(
            "Intel(R) MPI Library 2021.13 for Linux* OS\n\0",
            Family::Intel,
            "Intel MPI 2021.13",
        );
        check(
            "MVAPICH2 Version      :\t2.3.7\nMVAPICH2 Release date",
            Family::Mvapich,
            "MVAPICH 2.3.7",
        );
        check(
            "MPI VERSION    : CRAY MPICH version 8.1.28.29 (ANL base 3.4a2)\n",
            Family::Mpich,
            "Cray MPICH 8.1.28.29",
        );
        check(
            "Open MPI v5.0.11, package: Open MPI root@host Distribution, ident: 5.0.11",
            Family::OpenMpi,
            "Open MPI 5.0.11",
        );
    }

    #[test]
    fn an_unknown_library_is_quoted_safely() {
        check("", Family::Unknown, "an MPI that does not tell its name");
        check(
            "Toy\u{1b}[2J MPI\nsecond line",
            Family::Unknown,
            "an MPI unknown to spawnfix (Toy\\u{1b}[2J MPI)",
        );
        let long = Mpi::named("x".repeat(5000).as_bytes());
        assert!(long.to_string().len() < 200);
    }
}
