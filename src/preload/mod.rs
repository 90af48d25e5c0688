//! The library alone: what it interposes, and what that does.

pub mod after_fork;
pub mod c_strings;
pub mod call;
pub mod call_guard;
pub mod child_arguments;
pub mod decision;
pub mod env_changes;
pub mod exec_hooks;
pub mod failed_spawn;
pub mod first_spawn;
pub mod host_process;
pub mod init;
#[cfg(target_vendor = "apple")]
pub mod macos;
pub mod memory_file;
pub mod mpi_hooks;
pub mod nested;
pub mod own_path;
#[cfg(target_os = "linux")]
pub mod pmix_lookup;
pub mod real_fn;
pub mod spawn;
pub mod stack_buffer;
#[cfg(all(target_os = "linux", not(test)))]
mod unwinder;
