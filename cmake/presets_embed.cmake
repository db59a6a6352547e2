# configs/presets/*.yaml, embedded: the program finds its presets wherever it is installed.
file(GLOB preset_files CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/configs/presets/*.yaml")
set(generated "${PROJECT_BINARY_DIR}/generated/presets.cc")
set(entries "")
foreach(file ${preset_files})
  get_filename_component(name "${file}" NAME_WE)
  file(READ "${file}" text)
  string(APPEND entries "      {\"${name}\", R\"qfid(${text})qfid\"},\n")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
endforeach()
file(CONFIGURE OUTPUT "${generated}" @ONLY CONTENT "// Generated from configs/presets.
#include \"eval/experiment/spec_reader.h\"

namespace qfid::eval {

const std::vector<PresetText>& presets() {
  static const std::vector<PresetText> all{
@entries@  };
  return all;
}

}  // namespace qfid::eval
")
target_sources(qfid_eval_experiment PRIVATE "${generated}")
