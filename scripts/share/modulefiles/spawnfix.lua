-- spawnfix @VERSION@, for Lmod. Environment Modules reads @VERSION@ beside it.

local lib = [[@LIBDIR@/@LIB@]]

whatis("Name: spawnfix")
whatis("Version: @VERSION@")
whatis("Description: programs that call MPI_Comm_spawn without mpiexec keep their stdin")

help([[
spawnfix @VERSION@: a program that calls MPI_Comm_spawn without mpiexec keeps its stdin.

    spawnfix ipython                   a session that may spawn
    @PRELOAD@=@LIB@ ipython  the same, without the wrapper
    spawnfix --check ipython           tells whether it will help here
    man spawnfix                       the manual page

With SPAWNFIX_MODULE_PRELOAD=1 in the environment, loading this module preloads the library into all programs.
]])

prepend_path("PATH", [[@PREFIX@/bin]])

-- A directory with only our library in it: @LIBDIR@ may have others, which would come before the system's.
prepend_path("@LIBRARY_PATH@", [[@LIBDIR@/spawnfix]])

-- Without a MANPATH man looks in its own places; an empty element at its end keeps them.
if mode() == "load" and (os.getenv("MANPATH") or "") == "" then
   append_path("MANPATH", "")
end
prepend_path("MANPATH", [[@PREFIX@/share/man]])
if mode() == "unload" and (os.getenv("MANPATH") or "none"):match("^:*$") then
   append_path("MANPATH", "")
end

-- The dynamic linker splits @PRELOAD@ at blanks, so a path that has some goes in by its bare name.
if lib:find(" ", 1, true) then
   lib = "@LIB@"
end
if mode() == "unload" or os.getenv("SPAWNFIX_MODULE_PRELOAD") == "1" then
   -- An address sanitizer's runtime has to stay first.
   local first = (os.getenv("@PRELOAD@") or ""):match("[^: ]+") or ""
   first = first:match("[^/]*$")
   if first:match("^libh?w?asan[.]") or first:match("^libclang_rt[.]h?w?asan[.-]") then
      append_path("@PRELOAD@", lib)
   else
      prepend_path("@PRELOAD@", lib)
   end
end
