// Where a proposal begins: on windows that the run never saw, or where the text ends, on those behind what was chosen on;
// for token files, texts and documents.
#include "eval/experiment/proposal_text.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "eval/experiment/session.h"
#include "tests/eval/experiment/proposal_records.h"
#include "tests/support/temporary_directory.h"

using namespace qfid::eval;
using namespace qfid::tests;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("windows beside the calibration's", "[proposal]") {
  const TemporaryDirectory dir;
  const std::filesystem::path file = dir.path() / "p.yaml";
  const std::int64_t after = 512 + windows * context;
  const auto with = [&](std::int64_t first) {
    return record_of(spec_text("", ", calibration: {first_token: " + std::to_string(first) + ", windows: 4}"));
  };
  const Proposal before = proposal_of(with(after + 40 * context), 0.0061, file);
  CHECK(before.first_token == after);
  CHECK(before.windows == 40);
  const Proposal behind = proposal_of(with(after), 0.0061, file);
  CHECK(behind.first_token == after + 4 * context);
  CHECK(behind.windows == windows);
}

TEST_CASE("where the text ends with the run, windows behind both its first half and its budgets', and the file says so",
          "[proposal]") {
  const TemporaryDirectory dir;
  const std::filesystem::path file = dir.path() / "p.yaml";
  ExperimentRecord record = record_of(spec_text(), 1530);  // 4 of the text's 1534 windows are left
  const Proposal half = proposal_of(record, 0.0061, file);
  CHECK(half.first_token == 512 + 765 * context);
  CHECK(half.windows == 1534 - 765);
  CHECK(half.measured);
  CHECK_THAT(half.yaml,
             ContainsSubstring("on, where the run measured its targets too: the text leaves too few after its 1530 "
                               "windows. What to keep was\n# chosen on windows before: the first 765 said how "
                               "much must go, the first 16 made the error budgets.\n"));
  CHECK_THAT(half.yaml, !ContainsSubstring("nothing was chosen") && !ContainsSubstring("Fewer than"));
  CHECK(read_spec(dir.write("p.yaml", half.yaml)).data.first_token == half.first_token);

  record.budgets[0].tokens.assign(1510, 100);
  const Proposal few = proposal_of(record, 0.0061, file);
  CHECK(few.first_token == 512 + 1510 * context);
  CHECK(few.windows == 24);
  CHECK_THAT(few.yaml,
             ContainsSubstring("the first 765 said how much must go, the first 1510 made the error budgets.\n# Fewer "
                               "than 32 windows: too few for both halves to decide.\n"));

  record = record_of(spec_text(), 1534);
  record.budgets[0].tokens.assign(1534, 100);
  const Proposal none = proposal_of(record, 0.0061, file);
  CHECK(none.why_not == "the text leaves no window after the windows on which something was chosen");
  CHECK(none.yaml.empty());
}

namespace {

/// Pages of prose, 1 to 5 lines each.
std::string pages(int count) {
  std::string text;
  for (int page = 0; page < count; ++page) {
    text += "{\"text\": \"";
    for (int line = 0; line <= page * 3 % 5; ++line)
      text += "It was the " + std::to_string(page) + "th of the month, and he asked where the ship was. ";
    text += "\"}\n";
  }
  return text;
}

/// The configuration lies elsewhere than the proposal; paths are relative to it.
struct TextRun {
  std::string text(const std::string& data) const {
    const std::string configs = std::string(QFID_SOURCE_DIR) + "/configs/";
    return "version: 1\nname: x\nmodels: {m: {path: " + configs + "models/tiny-softmax}}\ndata: {" + data +
           ", tokenizer: tokenizer.json}\ntargets: {a: {preset: int8-per-token}}\n";
  }
  ExperimentRecord record(const std::string& data, std::int64_t count) const {
    ExperimentRecord made = record_of(text(data), count);
    made.spec_file = (dir.path() / "there/x.yaml").string();
    return made;
  }
  /// Of a run as `data` says, and what it evaluates.
  std::pair<Corpus, EvaluationSize> evaluated(const std::string& yaml, const std::string& name) const {
    const Spec spec = read_spec(dir.write(name, yaml));
    Corpus corpus = load_corpus(spec.data);
    const EvaluationSize size = evaluation_size(spec, read_config(spec.models.at(0).path), corpus);
    return {std::move(corpus), size};
  }
  TextRun() {
    dir.write("there/pages.jsonl", pages(120));
    dir.write("there/one.txt", pages(120));
    dir.write("there/tokenizer.json", read_file(std::string(QFID_SOURCE_DIR) + "/configs/data/tiny-tokenizer.json"));
    file = dir.path() / "p.yaml";
  }
  TemporaryDirectory dir;
  std::filesystem::path file;
};

}  // namespace

TEST_CASE("text is proposed for as tokens are, its length counted in tokens", "[proposal]") {
  const TextRun x;
  const std::string data = "text: one.txt, context: 16, windows: 40";
  const std::size_t tokens = x.evaluated(x.text(data), "there/x.yaml").first.tokens.size();
  const Proposal p = proposal_of(x.record(data, 40), 0.0061, x.file);
  CHECK(p.first_token == 40 * 16);
  CHECK(p.windows == 40);
  const Spec spec = read_spec(x.dir.write("p.yaml", p.yaml));
  CHECK(spec.data.text.text == x.dir.path() / "there/one.txt");
  CHECK(spec.data.text.tokenizer == x.dir.path() / "there/tokenizer.json");
  CHECK(spec.data.written == "there/one.txt");
  const auto all = static_cast<std::int64_t>(tokens) / 16;
  REQUIRE(all > 80);
  const Proposal late = proposal_of(x.record("text: one.txt, context: 16", all), 0.0061, x.file);
  CHECK(late.first_token == all / 2 * 16);
  CHECK(late.windows == all - all / 2);
}

TEST_CASE("under lmeval a proposal begins with the document after the last evaluated one, or after the first half's",
          "[proposal]") {
  const TextRun x;
  const std::string pages = "text: pages.jsonl, documents: jsonl, protocol: lmeval, context: 16";
  const auto [corpus, ran] = x.evaluated(x.text(pages + ", windows: 50"), "there/x.yaml");
  const Proposal p = proposal_of(x.record(pages + ", windows: 50", ran.windows), 0.0061, x.file);
  CHECK(p.first_token == corpus.documents.at(ran.end_document).first_token);
  CHECK_FALSE(p.measured);
  const EvaluationSize proposed = x.evaluated(p.yaml, "p.yaml").second;
  CHECK(proposed.first_document == ran.end_document);
  CHECK(proposed.windows == p.windows);
  CHECK(p.windows >= 32);
  CHECK(p.windows <= ran.windows);

  const EvaluationSize all = x.evaluated(x.text(pages), "there/x.yaml").second;
  const Proposal late = proposal_of(x.record(pages, all.windows), 0.0061, x.file);
  CHECK(late.measured);
  const EvaluationSize rest = x.evaluated(late.yaml, "p.yaml").second;
  CHECK(rest.end_document == corpus.documents.size());
  CHECK(rest.windows == late.windows);
  CHECK(rest.windows <= all.windows - all.windows / 2);  // no document that the first half saw a window of
  CHECK(rest.windows > all.windows - all.windows / 2 - 10);
  CHECK(corpus.documents.at(rest.first_document).first_token == late.first_token);

  const std::string one = "text: one.txt, protocol: lmeval, context: 16";
  const std::int64_t count = x.evaluated(x.text(one), "there/x.yaml").second.windows;
  CHECK(proposal_of(x.record(one, count), 0.0061, x.file).why_not ==
        "the text leaves no document after the windows on which something was chosen");
}
