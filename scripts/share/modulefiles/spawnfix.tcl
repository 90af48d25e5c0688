#%Module1.0
# spawnfix @VERSION@, for Environment Modules. Lmod reads @VERSION@.lua beside it.

set lib {@LIBDIR@/@LIB@}

module-whatis {spawnfix @VERSION@: programs that call MPI_Comm_spawn without mpiexec keep their stdin}

proc ModulesHelp {} {
    puts stderr {spawnfix @VERSION@: a program that calls MPI_Comm_spawn without mpiexec keeps its stdin.

    spawnfix ipython                   a session that may spawn
    @PRELOAD@=@LIB@ ipython  the same, without the wrapper
    spawnfix --check ipython           tells whether it will help here
    man spawnfix                       the manual page

With SPAWNFIX_MODULE_PRELOAD=1 in the environment, loading this module preloads the library into all programs.}
}

conflict spawnfix

prepend-path PATH {@PREFIX@/bin}

# A directory with only our library in it: @LIBDIR@ may have others, which would come before the system's.
prepend-path @LIBRARY_PATH@ {@LIBDIR@/spawnfix}

# Without a MANPATH man looks in its own places; an empty element at its end keeps them.
if {[module-info mode load] && (![info exists env(MANPATH)] || $env(MANPATH) eq {})} {
    append-path MANPATH {}
}
prepend-path MANPATH {@PREFIX@/share/man}
if {[module-info mode unload] && [info exists env(MANPATH)] && $env(MANPATH) eq {}} {
    setenv MANPATH {}
}

# The dynamic linker splits @PRELOAD@ at blanks, so a path that has some goes in by its bare name.
if {[string match {*[ ]*} $lib]} {
    set lib {@LIB@}
}
if {[module-info mode unload] || ([info exists env(SPAWNFIX_MODULE_PRELOAD)] && $env(SPAWNFIX_MODULE_PRELOAD) eq {1})} {
    # An address sanitizer's runtime has to stay first.
    if {[info exists env(@PRELOAD@)] && [regexp {^[: ]*([^: ]*/)?lib(asan|hwasan|clang_rt\.(hw)?asan)[.-]} $env(@PRELOAD@)]} {
        append-path @PRELOAD@ $lib
    } else {
        prepend-path @PRELOAD@ $lib
    }
}
