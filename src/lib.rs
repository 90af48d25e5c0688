//! What MPI launches on behalf of a program shares neither that program's terminal nor its fate.
//!
//! A program started without mpiexec (a *singleton*) that calls `MPI_Comm_spawn` under MPICH or its kin makes
//! libmpi start an mpiexec behind its back. That mpiexec reads the program's stdin, changes the flags of its
//! terminal, and has it killed when a child crashes. Preloaded, this library stands in between. One spawn, step by
//! step:
//!
//! 1. The program calls `MPI_Comm_spawn` and reaches [`hooks`], which gathers the facts: which MPI this is
//!    ([`symbols`], [`mpi`]), whether a process manager started the program ([`manager`]), what its [`stdin`] is.
//! 2. [`decision::decide`] turns facts and [`settings`], read from the [`environment`] at load, into a guard and a
//!    reason, which are logged ([`logging`]). With the usual guard, `launch`, nothing is done to the program; the real
//!    function is called.
//! 3. libmpi forks. The child calls `execvp("mpiexec", {"mpiexec", "-pmi_args", PORT, …})`, which reaches
//!    [`hooks`] again, and is recognised by its file's name and its arguments ([`launch`]), whoever made the call.
//! 4. [`handover`] executes the agent in the launcher's place: the program `spawnfix`, beside this library
//!    ([`location`]). What it does is told in src/agent/mod.rs. Where there is no agent, the child gives
//!    itself a stdin that reads as closed and an open file description of its own of the terminal ([`stdio::isolate`]),
//!    and becomes the launcher.
//! 5. The real `MPI_Comm_spawn` returns, and the outcome is logged. It may have been [`in_vain`]: the agent sees by the
//!    [`calls`] that it has to see to it that it returns at all.
//!
//! For an MPI that is not known, [`guard`] takes fd 0 away from the program for as long as the call lasts.
//!
//! In step 4 there is a forked child of a program that may have threads: nothing there allocates, takes a lock or
//! asks the dynamic linker for a symbol. A function that does its work there says so in its first line. There, as in
//! the hooks, a thread's [`cancellation`] waits.

#[allow(dead_code)] // each root uses a part
mod mpi;
mod preload;
#[allow(dead_code)]
mod shared;

use preload::{hooks, host_process};
use shared::{logging, settings};

ctor::declarative::ctor! {
    /// Reads the settings and finds the real execvp while nothing else runs: a forked child can do neither.
    #[ctor(unsafe)]
    fn load() {
        // A panic here would end every program; one that is caught costs the guard.
        let _ = std::panic::catch_unwind(|| {
            hooks::resolve();
            #[cfg(not(target_os = "linux"))]
            shared::stdio::terminals::note();
            // SAFETY: nothing changes the environment meanwhile.
            let variables = || unsafe { host_process::variables() };
            let others = variables().filter(|variable| !mpi::environment::note(variable));
            // Most processes have none, and are spared the rest.
            let complaints = match others.count() {
                1.. if !host_process::is_anothers() => settings::load(variables()),
                _ => Vec::new(),
            };
            let settings = settings::get();
            logging::start(settings.log.as_deref(), settings.log_file.as_deref());
            for complaint in complaints {
                log::warn!("{complaint}");
            }
            // `spawnfix --check` looks for these words.
            log::debug!(concat!("spawnfix ", env!("CARGO_PKG_VERSION"), " is loaded"));
        });
    }
}
