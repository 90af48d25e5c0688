! spawn.c's story in Fortran: spawn_fortran [multiple].
program spawn
   implicit none
   include 'mpif.h'
   external MPI_INIT, MPI_FINALIZE, MPI_COMM_GET_PARENT, MPI_COMM_SPAWN, MPI_COMM_SPAWN_MULTIPLE
   external MPI_COMM_DISCONNECT, MPI_COMM_REMOTE_SIZE
   integer :: parent, children, ierror, size, status, codes(2), line
   character(len=1024) :: self, arg, commands(2), argvs(2, 3)
   character(len=16) :: text
   character(len=1024) :: who = ''

   call MPI_INIT(ierror)
   call get_command_argument(0, self)
   call get_command_argument(1, arg)
   call MPI_COMM_GET_PARENT(parent, ierror)
   if (parent /= MPI_COMM_NULL) then
      call get_command_argument(2, arg)
      print '(a)', 'hello from child'
      flush (6)
      who = '.'//arg
      call report('child='//trim(arg))
      call MPI_BARRIER(parent, ierror)
      call MPI_COMM_DISCONNECT(parent, ierror)
      call MPI_FINALIZE(ierror)
      call report('bye=')
      stop
   end if

   do line = 1, 2
      call keep(status)
   end do
   call report('spawning=')
   codes = -1
   if (arg == 'multiple') then
      commands = self
      argvs = ' '
      argvs(:, 1) = 'child'
      argvs(1, 2) = 'first'
      argvs(2, 2) = 'second'
      call MPI_COMM_SPAWN_MULTIPLE(2, commands, argvs, [1, 1], [MPI_INFO_NULL, MPI_INFO_NULL], 0, &
                                   MPI_COMM_SELF, children, codes, ierror)
   else
      codes(2) = MPI_SUCCESS
      argvs = ' '
      argvs(1, :) = [character(len=1024) :: 'child', 'first', ' ']
      commands = self
      call MPI_COMM_SPAWN(self, argvs(1, :), 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, children, codes, ierror)
   end if
   call MPI_COMM_REMOTE_SIZE(children, size, ierror)
   write (text, '(i0)') size
   call report('spawned='//trim(text))
   if (any(codes /= MPI_SUCCESS)) call report('wrong=an error code')
   call MPI_BARRIER(children, ierror)
   call MPI_COMM_DISCONNECT(children, ierror)
   call report('working=')
   call sleep(1)
   do
      call keep(status)
      if (status /= 0) exit
   end do
   call MPI_FINALIZE(ierror)
   call report('end=')

contains

   include 'report.inc'
end program
