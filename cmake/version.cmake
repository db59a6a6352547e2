# Version, commit and compiler, compiled in for provenance.
find_package(Git QUIET)
set(QFID_GIT_COMMIT unknown)
if(GIT_FOUND AND EXISTS "${PROJECT_SOURCE_DIR}/.git")
  execute_process(COMMAND "${GIT_EXECUTABLE}" describe --always --dirty --abbrev=12 --exclude=*
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(commit)
    set(QFID_GIT_COMMIT "${commit}")
  endif()
endif()
configure_file("${PROJECT_SOURCE_DIR}/cmake/version.cc.in" "${PROJECT_BINARY_DIR}/generated/version.cc" @ONLY)
target_sources(qfid_eval_experiment PRIVATE "${PROJECT_BINARY_DIR}/generated/version.cc")
