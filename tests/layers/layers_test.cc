// The tree keeps its floors, and the check sees every kind of fault: each is planted in a small tree and must be named.
#include "tests/layers/layers.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>
#include <sstream>

using namespace qfid::tests;
using Catch::Matchers::ContainsSubstring;

namespace {

Floors project_floors() {
  std::ifstream file(QFID_BINARY_DIR "/generated/floors.txt");
  REQUIRE(file);
  std::ostringstream text;
  text << file.rdbuf();
  return read_floors(text.str());
}

std::string listed(const std::vector<std::string>& faults) {
  std::string text;
  for (const std::string& fault : faults) text += fault + "\n";
  return text;
}

const char* const small_floors =
    "quant:\n"
    "kernels: quant\n"
    "kernels/cpu: kernels | DNNL::dnnl\n"
    "kernels/gpu: kernels\n"
    "eval/model: kernels | nlohmann_json::nlohmann_json\n"
    "eval/metrics: kernels\n"
    "eval/experiment: eval/model eval/metrics | yaml-cpp::yaml-cpp\n";

Sources small_tree() {
  return {{"quant/codec.h", "#pragma once\n#include <vector>\nnamespace qfid::quant {}\n"},
          {"kernels/backend.h", "#pragma once\n#include \"quant/codec.h\"\nnamespace qfid::kernels {}\n"},
          {"kernels/cpu/gemm.h", "#pragma once\n#include <oneapi/dnnl/dnnl.hpp>\nnamespace qfid::kernels::cpu {}\n"},
          {"kernels/gpu/gemm.h", "#pragma once\n#include \"kernels/backend.h\"\nnamespace qfid::kernels::gpu {}\n"},
          {"eval/model/model.h", "#pragma once\n#include <nlohmann/json.hpp>\nnamespace qfid::eval {}\n"},
          {"eval/metrics/metric.h", "#pragma once\n#include \"quant/codec.h\"\nnamespace qfid::eval {}\n"},
          {"eval/experiment/yaml_tree.cc", "#include <yaml-cpp/parser.h>\n#include <unistd.h>\nnamespace qfid::eval {}\n"}};
}

}  // namespace

TEST_CASE("the floors of the project have no cycle and the sources keep them", "[layers]") {
  const Floors floors = project_floors();
  REQUIRE(floors.size() >= 12);
  const Sources sources = read_sources(QFID_SOURCE_DIR, {"quant", "kernels", "eval"});
  REQUIRE(sources.size() >= 100);
  CHECK(listed(floor_faults(floors)) == "");
  CHECK(listed(source_faults(floors, sources)) == "");
}

TEST_CASE("a clean tree has no faults", "[layers]") {
  CHECK(listed(floor_faults(read_floors(small_floors))) == "");
  CHECK(listed(source_faults(read_floors(small_floors), small_tree())) == "");
}

TEST_CASE("every planted fault is named with its file and line", "[layers]") {
  struct Planted {
    const char* file;
    std::string text;
    const char* expected;
  };
  const std::string eval = "namespace qfid::eval {}\n", quant = "namespace qfid::quant {}\n",
                    cpu = "namespace qfid::kernels {}\n";
  const Planted planted = GENERATE_COPY(values<Planted>({
      {"quant/up.cc", "#include \"kernels/backend.h\"\n" + quant,
       "quant/up.cc:1: includes \"kernels/backend.h\" of kernels"},
      {"eval/metrics/side.cc", "#include \"eval/model/model.h\"\n" + eval,
       "eval/metrics/side.cc:1: includes \"eval/model/model.h\""},
      {"kernels/gpu/side.cc", "\n # include \"kernels/cpu/gemm.h\"\n" + cpu,
       "kernels/gpu/side.cc:2: includes \"kernels/cpu/gemm.h\""},
      {"quant/lost.cc", "#include \"codec.h\"\n" + quant, "includes \"codec.h\", no file of the project"},
      {"eval/model/onednn.cc", "#include <oneapi/dnnl/dnnl.hpp>\n" + eval, "allowed only in kernels/cpu/"},
      {"kernels/cpu/cuda.cc", "#include <cublasLt.h>\n" + cpu, "allowed only in kernels/gpu/"},
      {"kernels/gpu/unlinked.cc", "#include <cublasLt.h>\n" + cpu, "doesn't link CUDA::"},
      {"eval/experiment/plan.cc", "#include <yaml-cpp/yaml.h>\n" + eval, "allowed only in eval/experiment/yaml_tree"},
      {"eval/metrics/json.cc", "#include <nlohmann/json.hpp>\n" + eval, "doesn't link nlohmann_json::"},
      {"quant/boost.cc", "#include <boost/any.hpp>\n" + quant, "of no package known"},
      {"quant/branch.cc", quant + "#ifdef NDEBUG\n#endif\n", "quant/branch.cc:2: a preprocessor branch"},
      {"quant/long.cc", quant + std::string(400, '\n'), "401 lines"},
      {"kernels/cpu/name.cc", "namespace qfid::quant {}\n", "opens namespace qfid::quant; expected qfid::kernels::cpu"},
      {"kernels/cpu/bare.cc", "namespace qfid {}\n", "opens namespace qfid; expected"},
      {"quant/none.cc", "int x;\n", "opens no namespace"},
      {"quant/open.h", "#pragma once\nusing namespace std;\n" + quant, "a header with `using namespace`"},
      {"quant/twice.h", quant, "a header without #pragma once"},
      {"quant/inner/deep.cc", quant, "its folder is no floor"},
  }));
  CAPTURE(planted.file);
  Sources tree = small_tree();
  tree[planted.file] = planted.text;
  const std::vector<std::string> faults = source_faults(read_floors(small_floors), tree);
  REQUIRE(faults.size() == 1);
  CHECK_THAT(faults[0], ContainsSubstring(planted.expected));
  CHECK_THAT(faults[0], ContainsSubstring(planted.file));
}

TEST_CASE("a long file may say why", "[layers]") {
  Sources tree = small_tree();
  tree["quant/long.cc"] =
      "// Longer than 400 lines because it is a table.\nnamespace qfid::quant {}\n" + std::string(400, '\n');
  CHECK(listed(source_faults(read_floors(small_floors), tree)) == "");
}

TEST_CASE("a cycle of floors and an unknown floor are faults", "[layers]") {
  CHECK_THAT(listed(floor_faults(read_floors("a: b\nb: c\nc: a\n"))), ContainsSubstring("a depends on itself"));
  CHECK_THAT(listed(floor_faults(read_floors("a: b\n"))), ContainsSubstring("which is no floor"));
}
