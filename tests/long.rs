//! What needs root, other machines or an hour: make targets of their own run these.

#![cfg(target_os = "linux")]

mod common;

mod long {
    mod aarch64;
    mod cluster;
    mod kill_injection;
    mod macos;
    mod soak;
    mod syscall_faults;
    mod versions;
    mod wheel;
}
