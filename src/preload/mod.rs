//! The library alone: what is interposed, and what that does.

pub mod after_fork;
pub mod call_guard;
pub mod cancellation;
pub mod decision;
pub mod failed_spawn;
pub mod hooks;
pub mod host_process;
pub mod own_path;
pub mod real_fn;
#[cfg(all(target_os = "linux", not(test)))]
mod unwinder;
