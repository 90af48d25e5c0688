//! The library alone: what it interposes, and what that does.

pub mod after_fork;
pub mod call_guard;
pub mod child_arguments;
pub mod decision;
pub mod env_changes;
pub mod failed_spawn;
pub mod first_spawn;
pub mod hooks;
pub mod host_process;
pub mod init;
#[cfg(target_vendor = "apple")]
pub mod macos;
pub mod own_path;
pub mod real_fn;
#[cfg(all(target_os = "linux", not(test)))]
mod unwinder;
