//! LD_PRELOAD lists.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use spawnfix_fuzz::preload_env::variables;
use spawnfix_fuzz::preload_list::{System, is_sanitizer, without_us};

fn entries(list: &[u8]) -> Vec<&[u8]> {
    let words = list.split(|byte| b": ".contains(byte));
    words.filter(|word| !word.is_empty()).collect()
}

fn is_ours(entry: &[u8]) -> bool {
    entry.rsplit(|&byte| byte == b'/').next() == Some(b"libspawnfix.so")
}

fn others(list: &[u8]) -> Vec<&[u8]> {
    let mut entries = entries(list);
    entries.retain(|entry| !is_ours(entry));
    entries
}

fuzz_target!(|list: &[u8]| {
    // Ours goes, the others stay in their order, and what is gone stays gone.
    let left = without_us(OsStr::from_bytes(list)).map(OsString::into_vec);
    assert_ne!(left, Some(Vec::new()));
    let left = left.unwrap_or_default();
    assert_eq!(entries(&left), others(list));
    let again = without_us(OsStr::from_bytes(&left)).map(OsString::into_vec);
    assert_eq!(again.unwrap_or_default(), left);

    // Ours comes in, ahead of all others but a sanitizer's runtime, which comes first.
    let library = Path::new("/opt/lib/libspawnfix.so");
    let preload = |list: &[u8]| {
        let made = variables(System::Elf, library, |name| {
            (name == "LD_PRELOAD").then(|| OsStr::from_bytes(list).to_owned())
        });
        let made = made.expect("this path can be preloaded");
        assert_eq!(made.len(), 1);
        made[0].1.as_bytes().to_vec()
    };
    let longer = preload(list);
    assert_eq!(others(&longer), others(list));
    let own = library.as_os_str().as_bytes();
    if !entries(list).contains(&own) {
        let at = entries(&longer)
            .iter()
            .position(|entry| *entry == own)
            .expect("it is there");
        assert_eq!(
            entries(&longer)
                .into_iter()
                .filter(|entry| is_ours(entry))
                .count(),
            1
        );
        let sanitizer = others(list)
            .first()
            .is_some_and(|first| is_sanitizer(first));
        assert_eq!(at, usize::from(sanitizer));
    }
    assert_eq!(preload(&longer), longer, "once is enough");
});
