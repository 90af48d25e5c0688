/* spawn N [SIZE]: spawns one child, or SIZE of them, N times. Prints how many microseconds each MPI_Comm_spawn took, one
   a line, then the private memory of this process after the first and after the last, in KB. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long private_kb(void)
{
    char line[256];
    long total = 0, kb;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Private_Dirty: %ld", &kb) == 1)
            total += kb;
    if (file)
        fclose(file);
    return total;
}

int main(int argc, char **argv)
{
    MPI_Comm children;
    MPI_Init(&argc, &argv);
    MPI_Comm_get_parent(&children);
    if (children != MPI_COMM_NULL) {
        MPI_Barrier(children); /* the parent is connected to all of them: MPICH 5 fails if one has gone before */
        MPI_Comm_disconnect(&children);
        MPI_Finalize();
        return 0;
    }
    int count = argc > 1 ? atoi(argv[1]) : 1, size = argc > 2 ? atoi(argv[2]) : 1;
    long first = 0;
    for (int i = 0; i < count; i++) {
        double start = MPI_Wtime();
        MPI_Comm_spawn(argv[0], MPI_ARGV_NULL, size, MPI_INFO_NULL, 0, MPI_COMM_SELF, &children, MPI_ERRCODES_IGNORE);
        printf("%.0f\n", (MPI_Wtime() - start) * 1e6);
        MPI_Barrier(children);
        MPI_Comm_disconnect(&children);
        if (i == 0)
            first = private_kb();
    }
    printf("memory %ld %ld\n", first, private_kb());
    MPI_Finalize();
    return 0;
}
