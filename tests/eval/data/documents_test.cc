// Documents, words and plain English written out by hand; words also as Python counts them (tokenizer_vectors.json).
#include "eval/data/documents.h"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "eval/data/corpus.h"
#include "tests/support/malformed.h"

using namespace qfid::eval;
using namespace qfid::tests;
using Texts = std::vector<std::string>;
using Ids = std::vector<std::int32_t>;

namespace {

const std::string source = QFID_SOURCE_DIR;

std::string refused(const std::string& text, Documents documents) {
  const TemporaryDirectory dir;
  const auto path = dir.write("t", text);
  const Failure failure = failure_of([&] { read_documents(path, documents); });
  CHECK(failure.code == 3);
  return dir.shown(failure.message);
}

Corpus corpus(const std::string& text, Documents documents, Protocol protocol, bool detokenize = false) {
  const TemporaryDirectory dir;
  return read_text_corpus({dir.write("t", text), source + "/configs/data/tiny-tokenizer.json", documents, detokenize},
                          protocol);
}

}  // namespace

TEST_CASE("documents: a file, its lines, or a field of each", "[documents]") {
  const TemporaryDirectory dir;
  const auto text = dir.write("t", " = A =\n\n  \n b\r\nlast");
  CHECK(read_documents(text, Documents::file) == Texts{" = A =\n\n  \n b\r\nlast"});
  CHECK(read_documents(text, Documents::lines) == Texts{" = A =\n", "", "", " b\r\n", "last"});
  CHECK(read_documents(dir.write("s", "x\n\ny"), Documents::lines) == Texts{"x\n", "", "y"});
  const auto lines = dir.write("l", "{\"text\": \"a\\nb\", \"id\": 1}\n\n{\"text\": \"\"}\n{\"text\": \"\\u00e9\"}");
  CHECK(read_documents(lines, Documents::jsonl) == Texts{"a\nb", "", "é"});
  for (const Documents documents : {Documents::file, Documents::lines, Documents::jsonl})
    CHECK(parse_documents(to_string(documents)) == documents);
}

TEST_CASE("documents: what is wrong, and where", "[documents]") {
  for (const Documents documents : {Documents::file, Documents::lines, Documents::jsonl}) {
    CHECK(refused("", documents) == "DIR/t: no documents");
    CHECK(refused("{\"text\": \"a\xfe\"}", documents) == "DIR/t: byte 11 isn't UTF-8");
  }
  CHECK(refused("\n \n", Documents::jsonl) == "DIR/t: no documents");
  CHECK(refused("{\"text\": \"a\"}\n{\"text\": 1}\n", Documents::jsonl) == "DIR/t:2: \"text\" is 1, expected text");
  CHECK(refused("{\"text\": \"a\"}\n\n{\"page\": 1}\n", Documents::jsonl) == "DIR/t:3: missing key \"text\"");
  CHECK(refused("{\"text\": \"a\"\n", Documents::jsonl) == "DIR/t:1: byte 13: not valid JSON");
  CHECK(refused("[]\n", Documents::jsonl) == "DIR/t:1: the file is a list, expected a map");
  CHECK(failure_of([] { read_documents("/nowhere/t", Documents::file); }).code == 3);
}

TEST_CASE("words as re.split counts them, empty ends included", "[documents]") {
  CHECK(count_words("") == 1);
  CHECK(count_words("one") == 1);
  CHECK(count_words("a b") == 2);
  CHECK(count_words(" a \n b\t") == 4);
  CHECK(count_words(" ") == 2);
  CHECK(count_words("a\u00a0b\u3000c\x1d"
                    "d\u200be") == 4);  // U+200B isn't white space
  const auto vectors = nlohmann::json::parse(read_file(source + "/tests/eval/data/tokenizer_vectors.json"));
  for (std::size_t i = 0; i < vectors["texts"].size(); ++i) {
    CAPTURE(vectors["texts"][i].dump());
    CHECK(count_words(vectors["texts"][i].get<std::string>()) == vectors["words"][i].get<std::int64_t>());
  }
}

TEST_CASE("WikiText's release back to plain English, by hand", "[documents]") {
  CHECK(wikitext_detokenized("") == "");
  CHECK(wikitext_detokenized(" \n = Robert Boulter = \n \n Robert is an actor , and more . He 's 5 @.@ 2 m \n") ==
        "\n= Robert Boulter =\n\nRobert is an actor, and more. He's 5.2 m\n");
  CHECK(wikitext_detokenized("a two @-@ part : 1 @,@ 000 ; yes ! no ? end") == "a two-part: 1,000; yes! no? end");
  CHECK(wikitext_detokenized("( a b ) [ c ] { d } \" e f \" ' g '") == "(a b) [c] {d} \"e f\" 'g'");
  CHECK(wikitext_detokenized("the dogs ' bones") == "the dogs' bones");
  CHECK(wikitext_detokenized(" = = = Early = = = \n") == " === Early ===\n");
  CHECK(wikitext_detokenized("= = x = = = = y") == "== x ==== y");
  CHECK(wikitext_detokenized("20 \u00b0 C of N words") == "20\u00b0C of 1 words");
  CHECK(wikitext_detokenized("( open and never closed") == "( open and never closed");
  CHECK(wikitext_detokenized("/' 5/") == "/'[0-9]/");
  CHECK(wikitext_detokenized(" . . ") == ". . ");
}

TEST_CASE("a text's tokens under each protocol: joined or apart, with special tokens or without", "[documents]") {
  const std::string lines = "one\n\ntwo words\n";
  const Ids one = corpus("one\n", Documents::file, Protocol::window).tokens,
            two = corpus("two words\n", Documents::file, Protocol::window).tokens;
  const Corpus apart = corpus(lines, Documents::lines, Protocol::window);
  Ids both = one;
  both.insert(both.end(), two.begin(), two.end());
  CHECK(apart.tokens == both);
  REQUIRE(apart.documents.size() == 3);
  CHECK(apart.documents[0].tokens == static_cast<std::int64_t>(one.size()));
  CHECK(apart.documents[0].words == 2);  // "one" and the empty end
  CHECK(apart.documents[0].bytes == 4);
  CHECK(apart.documents[1].first_token == apart.documents[2].first_token);
  CHECK(apart.documents[1].words == 1);
  CHECK(apart.documents[1].bytes == 0);
  CHECK(apart.documents[2].words == 3);
  const Corpus together = corpus(lines, Documents::lines, Protocol::gptq);
  CHECK(together.tokens == corpus("one\n\n\n\n\ntwo words\n", Documents::file, Protocol::window).tokens);
  CHECK(together.documents.empty());
  const Corpus plain = corpus("It 's 5 @.@ 2 , é", Documents::file, Protocol::window, true);
  CHECK(plain.tokens == corpus("It's 5.2, é", Documents::file, Protocol::window).tokens);
  CHECK(plain.documents[0].words == 7);
  CHECK(plain.documents[0].bytes == 18);
  const TemporaryDirectory dir;
  const auto blank = dir.write("t", "\n\n");
  CHECK(dir.shown(failure_of([&] {
                    read_text_corpus({blank, source + "/configs/data/tiny-tokenizer.json", Documents::lines, false},
                                     Protocol::window);
                  }).message) == "DIR/t: no tokens come of this text");
}

TEST_CASE("targets of masked tokens have their rows", "[documents]") {
  const TemporaryDirectory dir;
  const auto rows = [&](const char* name, const std::string& shape) {
    return dir.write(name, npy(npy_dict("<i4", shape), little_endian(Ids{1, 2, 3, 4, 5, 6})));
  };
  const auto ids = rows("ids.npy", "(2, 3)");
  const Corpus good = read_masked_corpus(ids, rows("same.npy", "(2, 3)"));
  CHECK(good.tokens == Ids{1, 2, 3, 4, 5, 6});
  CHECK(good.targets == good.tokens);
  const auto said = [&](const std::filesystem::path& targets) {
    const Failure failure = failure_of([&] { read_masked_corpus(ids, targets); });
    CHECK(failure.code == 3);
    return dir.shown(failure.message);
  };
  CHECK(said(rows("t.npy", "(3, 2)")) == "DIR/t.npy: targets [3, 2], expected those of the tokens in DIR/ids.npy, [2, 3]");
  CHECK(said(dir.write("t.npy", npy(npy_dict("<i4", "(2, 2)"), little_endian(Ids{1, 2, 3, 4})))) ==
        "DIR/t.npy: targets [2, 2], expected those of the tokens in DIR/ids.npy, [2, 3]");
  CHECK(said(dir.write("t.npy", npy(npy_dict("<i4", "(1, 3)"), little_endian(Ids{1, 2, 3})))) ==
        "DIR/t.npy: targets [1, 3], expected those of the tokens in DIR/ids.npy, [2, 3]");
}

TEST_CASE("generated sequences are the task's", "[documents]") {
  const std::filesystem::path tables = source + "/configs/data/bigram-backcopy";
  BackcopySource from;
  from.tables = tables;
  from.seed = 3;
  from.sequences = 4;
  from.length = 8;
  const Corpus made = make_backcopy_corpus(from);
  CHECK(made.sequence == 8);
  CHECK(made.tokens == BackcopyTask::read(tables).sequences(3, 4, 8));
  CHECK(made.path == "bigram-backcopy of " + tables.string());
}
