// A --set, applied to a small configuration, which is written again.
#include "eval/experiment/set_option.h"
#include "tests/fuzz/fuzz.h"

using namespace qfid;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const eval::YamlNode configuration = eval::parse_yaml(
      "version: 1\nname: t\nmodels: {m: {path: m}}\ndata: {tokens: t.npy}\ntargets: {a: {preset: int8}, b: {overrides: "
      "[]}}\n");
  eval::YamlNode root = configuration;
  eval::Problems problems("f.yaml");
  eval::apply_set(root, std::string(tests::text_of(data, size)), problems);
  if (problems.empty()) eval::write_yaml(root);  // as a proposal or a merge is written; checks are those of target config
  return 0;
}
