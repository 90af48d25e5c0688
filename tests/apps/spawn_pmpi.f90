! spawn.c's story in Fortran, calling Open MPI as its own Fortran bindings do: PMPI's functions, in C's way.
program spawn
   use iso_c_binding
   implicit none
   interface
      integer(c_int) function pmpi_init(argc, argv) bind(c, name='PMPI_Init')
         import
         type(c_ptr), value :: argc, argv
      end function
      integer(c_int) function pmpi_finalize() bind(c, name='PMPI_Finalize')
         import
      end function
      type(c_ptr) function pmpi_comm_f2c(comm) bind(c, name='PMPI_Comm_f2c')
         import
         integer(c_int), value :: comm
      end function
      type(c_ptr) function pmpi_info_f2c(info) bind(c, name='PMPI_Info_f2c')
         import
         integer(c_int), value :: info
      end function
      integer(c_int) function pmpi_comm_get_parent(parent) bind(c, name='PMPI_Comm_get_parent')
         import
         type(c_ptr) :: parent
      end function
      integer(c_int) function pmpi_comm_spawn(command, argv, maxprocs, info, root, comm, children, codes) &
         bind(c, name='PMPI_Comm_spawn')
         import
         character(kind=c_char) :: command(*)
         type(c_ptr) :: argv(*)
         integer(c_int), value :: maxprocs, root
         type(c_ptr), value :: info, comm
         type(c_ptr) :: children
         integer(c_int) :: codes(*)
      end function
      integer(c_int) function pmpi_barrier(comm) bind(c, name='PMPI_Barrier')
         import
         type(c_ptr), value :: comm
      end function
      integer(c_int) function pmpi_comm_disconnect(comm) bind(c, name='PMPI_Comm_disconnect')
         import
         type(c_ptr) :: comm
      end function
   end interface
   ! mpif-constants.h
   integer(c_int), parameter :: comm_self = 1, comm_null = 2, info_null = 0
   character(kind=c_char, len=6), target :: word = 'child'//c_null_char
   character(len=1024) :: self, who = ''
   character(len=8) :: text
   type(c_ptr) :: parent, children, argv(2)
   integer(c_int) :: rc, codes(1)
   integer :: line, status, count

   rc = pmpi_init(c_null_ptr, c_null_ptr)
   rc = pmpi_comm_get_parent(parent)
   if (.not. c_associated(parent, pmpi_comm_f2c(comm_null))) then
      who = '.child'
      count = 0
      do
         read (5, *, iostat=status)
         if (status /= 0) exit
         count = count + 1
      end do
      write (text, '(i0)') count
      call report('child_read='//trim(text))
      rc = pmpi_barrier(parent)
      rc = pmpi_comm_disconnect(parent)
      rc = pmpi_finalize()
      stop
   end if

   call get_command_argument(0, self)
   do line = 1, 2
      call keep(status)
   end do
   argv = [c_loc(word), c_null_ptr]
   rc = pmpi_comm_spawn(trim(self)//c_null_char, argv, 1, pmpi_info_f2c(info_null), 0, pmpi_comm_f2c(comm_self), &
                        children, codes)
   if (rc == 0) call report('spawned=1')
   rc = pmpi_barrier(children)
   rc = pmpi_comm_disconnect(children)
   call sleep(1)
   do
      call keep(status)
      if (status /= 0) exit
   end do
   rc = pmpi_finalize()
   call report('end=')

contains

   include 'report.inc'
end program
