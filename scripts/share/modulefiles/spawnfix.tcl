#%Module1.0
# spawnfix @VERSION@, for Environment Modules. Lmod reads @VERSION@.lua beside it.

set lib {@LIBDIR@/@LIB@}

module-whatis {spawnfix @VERSION@: MPI applications that call MPI_Comm_spawn without mpiexec keep their stdin}

proc ModulesHelp {} {
    puts stderr {spawnfix @VERSION@: MPI applications that call MPI_Comm_spawn without mpiexec keep their stdin.

    spawnfix ipython                   an IPython that may spawn
    @PRELOAD@=@LIB@ ipython  the same, without the command spawnfix
    spawnfix --check ipython           will it work here?
    man spawnfix                       the manual page

If SPAWNFIX_MODULE_PRELOAD=1 is set when this module is loaded, the library is preloaded into all programs.}
}

conflict spawnfix

prepend-path PATH {@PREFIX@/bin}

# A directory that holds only this library: @LIBDIR@ may hold others, which would come before the system's.
prepend-path @LIBRARY_PATH@ {@LIBDIR@/spawnfix}

# Without MANPATH, man looks in its default directories; an empty element at the end keeps them.
if {[module-info mode load] && (![info exists env(MANPATH)] || $env(MANPATH) eq {})} {
    append-path MANPATH {}
}
prepend-path MANPATH {@PREFIX@/share/man}
if {[module-info mode unload] && [info exists env(MANPATH)] && $env(MANPATH) eq {}} {
    setenv MANPATH {}
}

# The dynamic linker splits @PRELOAD@ at blanks, so a path with blanks is replaced by the bare name.
if {[string match {*[ ]*} $lib]} {
    set lib {@LIB@}
}
if {[module-info mode unload] || ([info exists env(SPAWNFIX_MODULE_PRELOAD)] && $env(SPAWNFIX_MODULE_PRELOAD) eq {1})} {
    # The runtime of an address sanitizer must stay first.
    if {[info exists env(@PRELOAD@)] && [regexp {^[: ]*([^: ]*/)?lib(asan|hwasan|clang_rt\.(hw)?asan)[.-]} $env(@PRELOAD@)]} {
        append-path @PRELOAD@ $lib
    } else {
        prepend-path @PRELOAD@ $lib
    }
}
