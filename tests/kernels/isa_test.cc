// What the record says ran, and that INT8 gives the same bits at every step of oneDNN's instruction sets. CTest runs the
// tests tagged [isa] in a process per step (ONEDNN_MAX_CPU_ISA), after this one wrote the digest of the machine's own step.
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "quant/core/dispatch.h"
#include "tests/kernels/attention_cases.h"
#include "tests/kernels/linear_cases.h"

using namespace qfid;
using namespace qfid::tests;

namespace {

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

/// FNV-1a of a tensor's bytes.
std::uint64_t digest(const Tensor& t, std::uint64_t hash) {
  for (std::size_t i = 0; i < t.bytes(); ++i) hash = (hash ^ std::to_integer<std::uint64_t>(t.raw()[i])) * 0x100000001B3U;
  return hash;
}

/// Outputs of INT8 linears and attention of every variant, as one line of text for each.
std::string integer_digests(Backend& backend) {
  std::string text;
  for (const LinearCase& c : {LinearCase{130, 67, 150}, LinearCase{1536, 33, 9}})
    for (const char* activations : {"int8/token", "uint8/token/affine", "uint8/tensor"}) {
      const LinearProblem p = linear_problem(c, "int8/channel", activations);
      text += p.to_string() + " " + std::to_string(digest(run(backend, p, inputs_of(c, 30)).y, 0xCBF29CE484222325U)) + "\n";
    }
  std::vector<Case> cases = variants();
  cases.push_back(
      {.batch = 1, .q_len = 600, .kv_len = 600, .q_heads = 1, .kv_heads = 1});  // more keys than one exact f32 block
  std::vector<Named> all = quantized_schemes();
  all.push_back({"blocks of more keys than one", schemes("int8/token", "int8/token", "uint8/running_forward(520)", "int8")});
  for (const Named& scheme : all) {
    if (!quant::is_integer(scheme.schemes.q.format) || !quant::is_integer(scheme.schemes.p.format)) continue;
    for (const Case& c : cases) {
      const Run r = run(backend, problem_of(c, scheme.schemes), inputs_of(c, 31), true, static_ranges(c, scheme.schemes));
      std::uint64_t hash = digest(r.output, 0xCBF29CE484222325U);
      for (const TapPoint point : {TapPoint::scores_i32, TapPoint::scores, TapPoint::p_codes, TapPoint::lse})
        hash = digest(r.taps.at(point), hash);
      text += scheme.name + " " + c.to_string() + " " + std::to_string(hash) + "\n";
    }
  }
  return text;
}

}  // namespace

TEST_CASE("the record names what ran: oneDNN's kernels, never its reference ones; the exact routes below VNNI",
          "[isa][threads]") {
  for (const NamedBackend& backend : backends()) {
    if (backend.name != "cpu") continue;
    const std::string isa = backend->info().isa;
    REQUIRE(isa != "unknown");
    if (const char* limit = std::getenv("ONEDNN_MAX_CPU_ISA")) {
      std::string lower = limit;
      for (char& c : lower) c = static_cast<char>(std::tolower(c));
      WARN("at most " << lower << ": " << isa);
    }
    const bool vnni = contains(isa, "vnni") || contains(isa, "bf16") || contains(isa, "amx") || contains(isa, "avx10");
    const bool avx512 = contains(isa, "avx512") || contains(isa, "avx10");
    const auto judge_one = [&](const std::string& implementation, bool integer) {
      CAPTURE(isa, implementation);
      CHECK_FALSE(implementation.empty());
      CHECK_FALSE(contains(implementation, "ref"));
      if (avx512 && (vnni || !integer)) CHECK(contains(implementation, "brg"));
      if (integer) CHECK(contains(implementation, "no VNNI") == !vnni);
      if (!integer) CHECK_FALSE(contains(implementation, "no VNNI"));
    };
    std::vector<Case> cases = variants();
    for (const Case& c : lengths()) cases.push_back(c);
    for (const Named& scheme : quantized_schemes())
      for (const Case& c : cases) {
        CAPTURE(scheme.name, c.to_string());
        const bool integer = quant::is_integer(scheme.schemes.q.format) || quant::is_integer(scheme.schemes.p.format);
        judge_one(run(*backend, problem_of(c, scheme.schemes), inputs_of(c, 32), false, static_ranges(c, scheme.schemes))
                      .implementation,
                  integer);
      }
    for (const LinearCase& c : {LinearCase{130, 67, 150}, LinearCase{7, 1, 1}, LinearCase{64, 128, 3}})
      for (const auto& [weights, activations] :
           {std::pair{"int8/channel", "int8/token"}, std::pair{"int8/tensor", "uint8/token/affine"},
            std::pair{"e4m3/channel", "e4m3/token"}, std::pair{"bf16", "bf16"}, std::pair{"f32", "f32"}}) {
        CAPTURE(weights, c.in, c.out);
        judge_one(run(*backend, linear_problem(c, weights, activations), inputs_of(c, 33)).implementation,
                  weights[0] == 'i');
      }
  }
}

TEST_CASE("INT8 gives the same bits at every instruction set step", "[isa]") {
  const std::filesystem::path file = std::filesystem::path(QFID_BINARY_DIR) / "kernels_int8_digests.txt";
  for (const NamedBackend& backend : backends()) {
    if (backend.name != "cpu") continue;
    const std::string now = integer_digests(*backend);
    if (std::getenv("ONEDNN_MAX_CPU_ISA") == nullptr) {
      std::ofstream out(file);
      out << now;
      CHECK(out.good());
      continue;
    }
    std::ifstream in(file);
    if (!in) SKIP("no digests of this machine's own step: run the suite once without ONEDNN_MAX_CPU_ISA");
    std::istringstream lines(now);
    for (std::string expected, found; std::getline(in, expected);) {
      std::getline(lines, found);
      CHECK(found == expected);
    }
  }
}

TEST_CASE("INT8 linears give the same bits by s16 pairs and by f32 products in parts", "[isa]") {
  for (const NamedBackend& backend : backends()) {
    if (backend.name != "cpu") continue;
    for (const LinearCase& c :
         {LinearCase{130, 67, 150}, LinearCase{1536, 33, 9}, LinearCase{7, 1, 1}, LinearCase{64, 48, 3}})
      for (const char* activations : {"int8/token", "uint8/token/affine", "uint8/tensor"}) {
        const LinearProblem p = linear_problem(c, "int8/channel", activations);
        const auto best = run(*backend, p, inputs_of(c, 36));
        const quant::Isa before = quant::force_isa(quant::Isa::portable);
        const auto portable = run(*backend, p, inputs_of(c, 36));
        quant::force_isa(before);
        CAPTURE(p.to_string(), best.implementation, portable.implementation);
        CHECK(same_bits(best.y, portable.y));
        CHECK_FALSE(contains(portable.implementation, "pairs"));
      }
  }
}

// The row passes and quantizers are compiled for each, and choose at run time.
TEST_CASE("attention gives the same bits by the portable, the AVX2 and the AVX-512 row passes") {
  for (const NamedBackend& backend : backends()) {
    if (backend.name != "cpu") continue;
    for (const Named& scheme : all_schemes())
      for (const Case& c : {Case{.q_len = 70, .kv_len = 150}, Case{.q_len = 70, .kv_len = 150, .d = 24},
                            Case{.causal = false, .padded = true, .sink = true}}) {
        const AttentionProblem p = problem_of(c, scheme.schemes);
        if (!backend->supports(p)) continue;
        const Inputs in = inputs_of(c, 34);
        const AttentionRanges ranges = static_ranges(c, scheme.schemes);
        const Run best = run(*backend, p, in, true, ranges);
        for (const quant::Isa isa : {quant::Isa::portable, quant::Isa::avx2}) {
          const quant::Isa before = quant::force_isa(isa);
          const Run lower = run(*backend, p, in, true, ranges);
          quant::force_isa(before);
          CAPTURE(scheme.name, c.to_string(), static_cast<int>(isa));
          CHECK(same_bits(best.output, lower.output));
          for (const TapPoint point : {TapPoint::scores, TapPoint::probs, TapPoint::p_codes})
            CHECK(same_bits(best.taps.at(point), lower.taps.at(point)));
        }
      }
  }
}
