# The qfid program.
if(EXISTS "${PROJECT_SOURCE_DIR}/eval/cli/main.cc")
  add_executable(qfid eval/cli/main.cc eval/cli/allocation.cc)
  qfid_own_target(qfid)
  target_link_libraries(qfid PRIVATE qfid_eval_cli)
  set_target_properties(qfid PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
endif()
