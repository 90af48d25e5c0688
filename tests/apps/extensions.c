/* extensions FILE LIBRARY…: loads each extension, has it spawn, and unloads it; tells what its spawn returned, and whether
   its MPI library is gone then. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        void *extension = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        if (!extension)
            return puts(dlerror()), 1;
        int code = ((int (*)(void))dlsym(extension, "spawn"))();
        dlclose(extension);
        printf("returned %d, %s\n", code, dlopen(argv[i + 1], RTLD_NOW | RTLD_NOLOAD) ? "stays" : "gone");
        fflush(stdout);
    }
    return 0;
}
