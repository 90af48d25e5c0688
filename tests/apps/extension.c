/* What a language's extension module is: it is dlopened, with an MPI library of its own, and spawns. */
int MPI_Comm_spawn(const char *, char **, int, int, int, int, int *, int *);

int spawn(void)
{
    int children;
    return MPI_Comm_spawn("child", 0, 1, 0, 0, 0, &children, 0);
}
