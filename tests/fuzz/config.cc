// A configuration: read and checked whole, its gates alone, its targets alone; or written again, which must change nothing.
#include "eval/experiment/spec_reader.h"
#include "tests/fuzz/fuzz.h"

using namespace qfid;

namespace {

bool same(const eval::YamlNode& a, const eval::YamlNode& b) {
  if (a.kind != b.kind || a.text != b.text || a.items.size() != b.items.size() || a.entries.size() != b.entries.size())
    return false;
  for (std::size_t i = 0; i < a.items.size(); ++i)
    if (!same(a.items[i], b.items[i])) return false;
  for (std::size_t i = 0; i < a.entries.size(); ++i)
    if (!same(a.entries[i].first, b.entries[i].first) || !same(a.entries[i].second, b.entries[i].second)) return false;
  return true;
}

void write_again(const std::string& text) {
  eval::YamlNode read;
  try {
    read = eval::parse_yaml(text);
  } catch (const eval::YamlProblem&) { return; }
  if (read.kind != eval::YamlNode::Kind::map) return;  // no configuration
  try {
    tests::must_hold(same(read, eval::parse_yaml(eval::write_yaml(read))), "what was written reads as another tree");
  } catch (const eval::YamlProblem& problem) { tests::must_hold(false, problem.message.c_str()); }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [reader, content] = tests::choice_of(tests::text_of(data, size), 4);
  const std::string text(content);
  if (reader == 3) {
    write_again(text);
    return 0;
  }
  tests::refuses_with(quant::ErrorKind::usage, [&] {
    if (reader == 0) eval::read_spec("f.yaml", text, {});
    if (reader == 1) eval::read_gates("f.yaml", text);
    if (reader == 2) eval::read_targets("f.yaml", text);
  });
  return 0;
}
