// throws deep: an exception passes through a thousand frames, each with something to destroy.
// throws spawn, throws spawn_multiple: an exception leaves MPI's error handler, and so MPI_Comm_spawn.
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <stdexcept>
#include <string>
#include <sys/stat.h>

extern "C" {
extern void (*mpi_error_handler)();
int MPI_Comm_spawn(const char *, char **, int, void *, int, void *, void *, int *);
int MPI_Comm_spawn_multiple(int, char **, char ***, const int *, void *, int, void *, void *, int *);
}

static int destroyed;

struct Thing {
    ~Thing() { destroyed++; }
};

static void deep(int frames)
{
    Thing thing;
    if (frames == 1)
        throw std::runtime_error("from the deep");
    deep(frames - 1);
    destroyed += 1000000; // not a tail call, and never reached
}

static void spawn(bool multiple)
{
    Thing thing;
    void *children;
    mpi_error_handler = [] { throw std::runtime_error("the spawn failed"); };
    if (multiple)
        MPI_Comm_spawn_multiple(0, nullptr, nullptr, nullptr, nullptr, 0, nullptr, &children, nullptr);
    else
        MPI_Comm_spawn("child", nullptr, 1, nullptr, 0, nullptr, &children, nullptr);
    std::puts("the spawn returned");
}

int main(int, char **argv)
{
    struct stat before, after;
    fstat(0, &before);
    int flags = fcntl(0, F_GETFL);
    for (int time = 1; time <= 3; time++) {
        try {
            if (!std::strcmp(argv[1], "deep"))
                deep(1000);
            else
                spawn(!std::strcmp(argv[1], "spawn_multiple"));
        } catch (const std::exception &exception) {
            std::printf("caught: %s; destroyed: %d\n", exception.what(), destroyed);
        }
        bool same = !fstat(0, &after) && before.st_dev == after.st_dev && before.st_ino == after.st_ino;
        std::printf("stdin is %s\n", same && fcntl(0, F_GETFL) == flags ? "as it was" : "another");
    }
    char line[100];
    std::printf("read: %s", fgets(line, sizeof line, stdin) ? line : "nothing\n");
}
