//! What `make test` runs: real programs under real MPI libraries.

#![cfg(target_os = "linux")] // the test ground reads /proc

mod common;

mod cases {
    mod anywhere;
    mod applications;
    mod call_guard;
    mod check;
    mod children;
    mod crashes;
    mod docs;
    mod install;
    mod job_control;
    mod jupyter;
    mod kill_injection;
    mod launch_failures;
    mod lost_children;
    mod modules;
    mod mpi4py;
    mod out;
    mod preloads;
    mod published_names;
    mod security;
    mod sessions;
    mod signals;
    mod slurm;
    mod soak;
    mod sweep;
    mod syscall_faults;
    mod transparency;
    mod wrapper;
}
