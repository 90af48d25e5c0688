/* A program that publishes a name, and one that looks it up:
 *
 *     names publish NAME     publishes a port under NAME, and answers who connects to it
 *     names look-up NAME     looks NAME up, connects, and asks
 *     names family NAME      publishes, spawns `names look-up NAME` and answers it
 *
 * `names alone publish NAME` first spawns a child that does nothing: started without mpiexec, MPICH's programs have no
 * process manager to ask before that. The child stays: at its end its proxy's SIGCHLD may interrupt mpiexec's connect to
 * the name server, of which mpiexec dies (HYDU_sock_connect in src/pm/hydra/lib/utils/sock.c). */
#include <mpi.h>
#include <string.h>
#include "report.h"

static int checked(const char *what, int code)
{
    if (code != MPI_SUCCESS) {
        int length, class;
        char text[MPI_MAX_ERROR_STRING];
        MPI_Error_class(code, &class);
        MPI_Error_string(code, text, &length);
        text[strcspn(text, "\n")] = 0;
        report("failed=%s: %s", what, text);
    }
    return code == MPI_SUCCESS;
}

static MPI_Comm spawn(char *program, char **argv)
{
    MPI_Comm children = MPI_COMM_NULL;
    checked("spawn", MPI_Comm_spawn(program, argv, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &children, MPI_ERRCODES_IGNORE));
    return children;
}

static void publish(char *program, const char *name, int family)
{
    char port[MPI_MAX_PORT_NAME];
    if (!checked("open", MPI_Open_port(MPI_INFO_NULL, port))
        || !checked("publish", MPI_Publish_name(name, MPI_INFO_NULL, port)))
        return;
    report("published=yes");
    MPI_Comm child = MPI_COMM_NULL, other;
    char *argv[] = {"look-up", (char *) name, NULL};
    if (family)
        child = spawn(program, argv);
    if (checked("accept", MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &other))) {
        int number;
        MPI_Recv(&number, 1, MPI_INT, 0, 0, other, MPI_STATUS_IGNORE);
        report("asked=%d", number);
        number++;
        MPI_Send(&number, 1, MPI_INT, 0, 0, other);
        MPI_Comm_disconnect(&other);
    }
    if (child != MPI_COMM_NULL)
        MPI_Comm_disconnect(&child);
    if (checked("unpublish", MPI_Unpublish_name(name, MPI_INFO_NULL, port)))
        report("unpublished=yes");
    MPI_Close_port(port);
}

static void look_up(const char *name)
{
    char port[MPI_MAX_PORT_NAME];
    MPI_Comm parent, other;
    MPI_Comm_get_parent(&parent);
    if (checked("look-up", MPI_Lookup_name(name, MPI_INFO_NULL, port))
        && checked("connect", MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &other))) {
        int number = 41;
        MPI_Send(&number, 1, MPI_INT, 0, 0, other);
        MPI_Recv(&number, 1, MPI_INT, 0, 0, other, MPI_STATUS_IGNORE);
        report("answered=%d", number);
        MPI_Comm_disconnect(&other);
    }
    if (parent != MPI_COMM_NULL)
        MPI_Comm_disconnect(&parent);
}

int main(int argc, char **argv)
{
    char *program = argv[0];
    MPI_Init(&argc, &argv);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    if (strcmp(argv[1], "nothing") == 0) {
        MPI_Comm parent;
        MPI_Comm_get_parent(&parent);
        MPI_Comm_disconnect(&parent);
    } else {
        MPI_Comm child = MPI_COMM_NULL;
        if (strcmp(argv[1], "alone") == 0) {
            char *nothing[] = {"nothing", NULL};
            child = spawn(program, nothing);
            argv++;
        }
        if (strcmp(argv[1], "look-up") == 0)
            look_up(argv[2]);
        else
            publish(program, argv[2], strcmp(argv[1], "family") == 0);
        if (child != MPI_COMM_NULL)
            MPI_Comm_disconnect(&child);
    }
    MPI_Finalize();
    return 0;
}
