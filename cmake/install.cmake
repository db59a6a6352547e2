# cmake --install: bin/qfid, a static library and the headers of every folder, and a CMake package:
#   find_package(qfid) and link qfid::quant, qfid::kernels_registry, ...
# A backend's own headers stay at home: they show its library's types. Its backend.h is what others see.
include(CMakePackageConfigHelpers)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/qfid")

get_property(libraries GLOBAL PROPERTY QFID_LIBRARIES)
install(TARGETS ${libraries} EXPORT qfid-targets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
foreach(program qfid qfid-mpi)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endforeach()
foreach(folder quant kernels eval)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/${folder}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/qfid"
    FILES_MATCHING PATTERN "*.h" PATTERN "kernels/cpu" EXCLUDE PATTERN "kernels/gpu" EXCLUDE PATTERN "eval/mpi" EXCLUDE)
endforeach()
foreach(backend cpu gpu)
  install(FILES "${PROJECT_SOURCE_DIR}/kernels/${backend}/backend.h" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/qfid/kernels/${backend}")
endforeach()
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/README.md" "${PROJECT_SOURCE_DIR}/CHANGELOG.md"
  DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/docs" DESTINATION "${CMAKE_INSTALL_DOCDIR}")

install(EXPORT qfid-targets NAMESPACE qfid:: DESTINATION "${package_dir}")
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/qfid-config.cmake.in" "${PROJECT_BINARY_DIR}/generated/qfid-config.cmake"
  INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/generated/qfid-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/generated/qfid-config.cmake" "${PROJECT_BINARY_DIR}/generated/qfid-config-version.cmake"
  "${PROJECT_SOURCE_DIR}/cmake/FindxxHash.cmake" "${PROJECT_SOURCE_DIR}/cmake/FindPCRE2.cmake" DESTINATION "${package_dir}")
