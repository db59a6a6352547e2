# qfid-mpi, where an MPI is found: `qfid run` on the ranks of a job. Nothing else of the project sees MPI.
set(QFID_MPI AUTO CACHE STRING "qfid-mpi: AUTO (if an MPI 3 is found), ON, OFF")

set(QFID_WITH_MPI FALSE)
if(NOT QFID_MPI STREQUAL "OFF")
  set(MPI_CXX_SKIP_MPICXX TRUE)  # the C interface alone
  find_package(MPI 3.0 QUIET COMPONENTS CXX)
  if(MPI_CXX_FOUND)
    set(QFID_WITH_MPI TRUE)
  elseif(QFID_MPI STREQUAL "ON")
    message(FATAL_ERROR "qfid-mpi was asked for, but no MPI 3 was found (Debian: libopenmpi-dev openmpi-bin, or libmpich-dev mpich)")
  endif()
endif()

if(QFID_WITH_MPI)
  qfid_library(eval/mpi DEPENDS eval/cli LINK_PRIVATE MPI::MPI_CXX)
  add_executable(qfid-mpi eval/mpi/main.cc)
  qfid_own_target(qfid-mpi)
  target_link_libraries(qfid-mpi PRIVATE qfid_eval_mpi)
  set_target_properties(qfid-mpi PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
  # The program's alone: installed libraries don't ask for an MPI.
  get_property(libraries GLOBAL PROPERTY QFID_LIBRARIES)
  list(REMOVE_ITEM libraries qfid_eval_mpi)
  set_property(GLOBAL PROPERTY QFID_LIBRARIES ${libraries})
  message(STATUS "qfid-mpi: MPI ${MPI_CXX_VERSION}")
else()
  set_property(GLOBAL APPEND PROPERTY QFID_FLOORS "eval/mpi: eval/cli | MPI::MPI_CXX")
  message(STATUS "qfid-mpi: left out, no MPI 3 found or not wanted (Debian: libopenmpi-dev openmpi-bin)")
endif()
