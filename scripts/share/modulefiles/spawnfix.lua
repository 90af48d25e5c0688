-- spawnfix @VERSION@, for Lmod. Environment Modules reads @VERSION@ beside it.

local lib = [[@LIBDIR@/@LIB@]]

whatis("Name: spawnfix")
whatis("Version: @VERSION@")
whatis("Description: MPI applications that call MPI_Comm_spawn without mpiexec keep their stdin")

help([[
spawnfix @VERSION@: MPI applications that call MPI_Comm_spawn without mpiexec keep their stdin.

    spawnfix ipython                   an IPython that may spawn
    @PRELOAD@=@LIB@ ipython  the same, without the command spawnfix
    spawnfix --check ipython           will it work here?
    man spawnfix                       the manual page

If SPAWNFIX_MODULE_PRELOAD=1 is set when this module is loaded, the library is preloaded into all programs.
]])

prepend_path("PATH", [[@PREFIX@/bin]])

-- A directory that holds only this library: @LIBDIR@ may hold others, which would come before the system's.
prepend_path("@LIBRARY_PATH@", [[@LIBDIR@/spawnfix]])

-- Without MANPATH, man looks in its default directories; an empty element at the end keeps them.
if mode() == "load" and (os.getenv("MANPATH") or "") == "" then
   append_path("MANPATH", "")
end
prepend_path("MANPATH", [[@PREFIX@/share/man]])
if mode() == "unload" and (os.getenv("MANPATH") or "none"):match("^:*$") then
   append_path("MANPATH", "")
end

-- The dynamic linker splits @PRELOAD@ at blanks, so a path with blanks is replaced by the bare name.
if lib:find(" ", 1, true) then
   lib = "@LIB@"
end
if mode() == "unload" or os.getenv("SPAWNFIX_MODULE_PRELOAD") == "1" then
   -- The runtime of an address sanitizer must stay first.
   local first = (os.getenv("@PRELOAD@") or ""):match("[^: ]+") or ""
   first = first:match("[^/]*$")
   if first:match("^libh?w?asan[.]") or first:match("^libclang_rt[.]h?w?asan[.-]") then
      append_path("@PRELOAD@", lib)
   else
      prepend_path("@PRELOAD@", lib)
   end
end
