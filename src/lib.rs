//! What MPI launches on behalf of a program must not share that program's terminal.
//!
//! A program started without mpiexec (a *singleton*) that calls `MPI_Comm_spawn` under MPICH or its kin makes
//! libmpi start an mpiexec behind its back. That mpiexec reads the program's stdin, changes the flags of its
//! terminal, and in the end has it killed. Preloaded, this library stands in between. One spawn, step by step:
//!
//! 1. The program calls `MPI_Comm_spawn` and reaches [`hooks`], which gathers the facts: which MPI this is
//!    ([`mpi`]), whether a process manager started the program ([`launcher`]), what its stdin is ([`guard`]).
//! 2. [`decision::decide`] turns facts and settings ([`settings`]) into a guard and a reason, which are logged
//!    ([`logging`]). With the usual guard, `launch`, nothing is done to the program; the real function is called.
//! 3. libmpi forks. The child calls `execvp("mpiexec", {"mpiexec", "-pmi_args", PORT, …})`, which reaches
//!    [`hooks`] again, and is recognised by its arguments ([`launcher`]), whoever made the call.
//! 4. [`guard::isolate`] gives the child a stdin of its own that reads as closed, and its own open file
//!    description of the terminal; [`inherit`] takes this library out of its LD_PRELOAD. Then the real execvp turns
//!    the child into mpiexec.
//! 5. The program waits for mpiexec's connection. Should mpiexec end before it comes, or should step 4 have failed,
//!    the program is told so in mpiexec's place ([`watch`], [`launcher`]), as it would wait for ever otherwise.
//! 6. The real `MPI_Comm_spawn` returns, and the outcome is logged.
//!
//! Open MPI 5's launcher is recognised by its fork instead ([`prte`]), and only its process group and its LD_PRELOAD are
//! seen to: it leaves stdin alone.
//!
//! In step 4 there is a forked child of a program that may have threads: nothing there allocates, takes a lock or
//! asks the dynamic linker for a symbol. A function that does its work there says so in its first line.

mod decision;
mod guard;
mod handover;
mod hooks;
mod launch;
#[cfg(all(target_os = "linux", not(test)))]
mod linkage;
mod logging;
mod manager;
#[allow(dead_code)] // the program reads the table
mod mpi;
mod settings;
mod stdio;
mod symbols;

ctor::declarative::ctor! {
    /// Reads the settings and finds the real execvp while nothing else runs: a forked child can do neither.
    #[ctor(unsafe)]
    fn load() {
        // A panic here would end every program; one that is caught costs the guard.
        let _ = std::panic::catch_unwind(|| {
            hooks::resolve();
            #[cfg(not(target_os = "linux"))]
            stdio::terminals::note();
            // SAFETY: nothing changes the environment meanwhile.
            let variables = unsafe { settings::environment() };
            let others = variables.filter(|variable| !manager::note(variable));
            // Most processes have none, and are spared the rest.
            let complaints = if others.count() > 0 { settings::load() } else { Vec::new() };
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
