//! What `make test` runs: real programs under real MPI libraries.

#![cfg(target_os = "linux")] // the test ground reads /proc

mod common;

mod cases {
    mod check;
    mod cost;
    mod crashes;
    mod documents;
    mod failures;
    mod faults;
    mod install;
    mod jobs;
    mod jupyter;
    mod kills;
    mod lost;
    mod modules;
    mod mpi4py;
    mod names;
    mod preloads;
    mod programs;
    mod security;
    mod shells;
    mod signals;
    mod slurm;
    mod soak;
    mod sweep;
    mod unknown;
    mod wrapper;
}
