//! Preloaded into an application that was started without mpiexec, this library gives the launcher that MPI starts a
//! stdin, a terminal and an end of its own.
//!
//! An application that no process manager started (a *singleton*) may call `MPI_Comm_spawn`. Its MPI library then starts a
//! launcher, for example mpiexec. That launcher reads the application's stdin, changes the flags of its terminal, and
//! kills the application when a child crashes. One spawn, step by step:
//!
//! 1. The application calls `MPI_Init` and reaches [`preload::mpi_hooks`]. In a singleton, [`preload::init`] changes the
//!    environment as this MPI needs it on this machine ([`mpi::remedies`]), calls the real function, and takes back what
//!    it changed ([`preload::env_changes`]), and what MPI_Init changed of the application's signal dispositions.
//! 2. The application calls `MPI_Comm_spawn` and reaches [`preload::spawn`], which collects the facts: which MPI this is
//!    ([`preload::real_fn`], [`mpi`]), whether a process manager started the application ([`preload::host_process`]),
//!    what its stdin is ([`shared::stdio`]).
//! 3. [`preload::decision`] makes a decision of the facts and of the settings ([`shared::settings`]), which is logged
//!    ([`shared::logging`]). With the usual guard, `launch`, the application keeps its stdin and terminal: the hook
//!    calls the real function. Before that it writes down the environment, which the children get ([`preload::call`]),
//!    and replaces words of the children that PMI would change ([`preload::child_arguments`]).
//! 4. libmpi forks. The child calls `execvp("mpiexec", {"mpiexec", "-pmi_args", PORT, …})`, which reaches
//!    [`preload::exec_hooks`]. [`mpi::launch`] recognises it by the file's name and the arguments.
//! 5. [`preload::after_fork`] executes the agent in the launcher's place: the command `spawnfix`, which it finds from the
//!    library's own directory ([`preload::own_path`], [`shared::internal_args`]). src/agent/mod.rs says what the agent
//!    does. Where there is no agent, the child isolates its stdin and terminal ([`shared::stdio::isolate`]), and becomes
//!    the launcher.
//! 6. The real `MPI_Comm_spawn` returns, and the outcome is logged. If the children ended before they connected, the real
//!    function would never return. The agent sees that by a page that it shares with the library
//!    ([`shared::spawn_page`]), and makes it return; the hook then raises MPI_ERR_SPAWN ([`preload::failed_spawn`]). Under
//!    Open MPI the library sees it itself (`preload::pmix_lookup`).
//!
//! Under an MPI that spawnfix does not know, [`preload::call_guard`] takes fd 0 away from the application for as long as
//! the call lasts.
//!
//! Step 5 runs in a forked child of an application that may have threads: nothing there allocates, takes a lock or asks
//! the dynamic linker for a symbol by dlsym. A function that runs there says so in its first line.

mod interactive;
pub mod mpi;
mod preload;
pub mod shared;

use preload::{exec_hooks, host_process};
use shared::internal_args::VERSION;
use shared::logging;

/// The version, for `spawnfix --check` and `readelf --notes`: an ELF note (elf(5)) named "spawnfix".
#[repr(C)]
struct VersionNote {
    name_size: u32,
    version_size: u32,
    kind: u32,
    name: [u8; 12],
    version: [u8; VERSION.count_bytes()],
}

#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__TEXT,__spawnfix"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".note.spawnfix"))]
static VERSION_NOTE: VersionNote = VersionNote {
    name_size: 9,
    version_size: VERSION.count_bytes() as u32,
    kind: 1,
    name: *b"spawnfix\0\0\0\0",
    version: match VERSION.to_bytes().first_chunk() {
        Some(version) => *version,
        None => panic!(),
    },
};

ctor::declarative::ctor! {
    /// Reads the settings and finds the real execvp while nothing else runs: a forked child can do neither.
    #[ctor(unsafe)]
    fn load() {
        // A panic here would end every program; one that is caught costs the guard.
        let _ = std::panic::catch_unwind(|| {
            exec_hooks::resolve();
            host_process::note_nohup();
            #[cfg(target_vendor = "apple")]
            shared::macos::note_terminals();
            let complaints = host_process::read_environment();
            let settings = host_process::settings();
            logging::start(settings.log.as_deref(), settings.log_file.as_deref());
            for complaint in complaints {
                log::warn!("{complaint}");
            }
            log::debug!("spawnfix {} is loaded", VERSION.to_string_lossy());
        });
    }
}
