! The handles and constants that spawn.f90 needs, from Intel MPI's mpi.h: its wheels have a libmpifort and no mpif.h.
      integer MPI_COMM_WORLD, MPI_COMM_SELF, MPI_COMM_NULL
      integer MPI_INFO_NULL, MPI_SUCCESS
      parameter (MPI_COMM_WORLD = 1140850688)
      parameter (MPI_COMM_SELF = 1140850689)
      parameter (MPI_COMM_NULL = 67108864)
      parameter (MPI_INFO_NULL = 469762048)
      parameter (MPI_SUCCESS = 0)
