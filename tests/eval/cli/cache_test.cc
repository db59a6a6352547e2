// Runs that share a cache: the bytes of runs without one, whatever else they have in common; its size; what is damaged.
#include <catch2/catch_test_macros.hpp>
#include <format>
#include <thread>

#include "tests/support/tiny_experiment.h"

using namespace qfid::tests;
namespace fs = std::filesystem;

namespace {

using Words = std::vector<std::string>;

const Words no_later_pass{"--set", "metrics.noise_windows=0", "--set", "metrics.budget_windows=0",
                          "--set", "metrics.interventions=[]"};

Words joined(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Cached {
  explicit Cached(const TinyExperiment& of) : x(of) {}
  Words options() const { return {"--cache-dir", x.out("cache")}; }
  /// "3 parts taken, 2 kept" of a run with the cache, whose files are those of a run without it.
  std::string run(const Words& more) {
    const std::string name = std::format("run{}", ++runs), plain = name + "-plain";
    const Outcome without = x.run(plain, more);
    Words arguments = x.run_arguments(name, joined(options(), more));
    std::erase(arguments, "--quiet");
    const Outcome with = qfid_here(arguments);
    CHECK(with.code == without.code);
    CHECK(!x.files(name).empty());
    CHECK(x.files(name) == x.files(plain));
    const std::size_t at = with.err.rfind("/cache: ");
    return at == std::string::npos ? with.err : with.err.substr(at + 8, with.err.find('\n', at) - at - 8);
  }
  Words parts() const {
    Words all;
    for (const auto& entry : fs::directory_iterator(x.out("cache"))) all.push_back(entry.path().string());
    return all;
  }
  const TinyExperiment& x;
  int runs = 0;
};

std::uintmax_t bytes_of(const Words& files) {
  std::uintmax_t bytes = 0;
  for (const std::string& file : files) bytes += fs::file_size(file);
  return bytes;
}

}  // namespace

TEST_CASE("the same run twice: with later passes, and without any, when nothing is computed", "[cache]") {
  const TinyExperiment x;
  Cached cached(x);  // 2 models of 6 chunks, 2 targets and the baseline
  CHECK(cached.run({}) == "0 parts taken, 36 kept");
  CHECK(cached.run({}) == "36 parts taken, 0 kept");
  CHECK(cached.run(no_later_pass) == "0 parts taken, 36 kept");  // its metrics are others
  CHECK(cached.run(no_later_pass) == "36 parts taken, 0 kept");
  CHECK(cached.run(joined(no_later_pass, {"--set", "name=other"})) == "36 parts taken, 0 kept");
}

TEST_CASE("what a run adds is computed, what it has in common with others isn't", "[cache]") {
  const TinyExperiment x;
  Cached cached(x);
  CHECK(cached.run(joined(no_later_pass, {"--model", "m", "--target", "int8"})) == "0 parts taken, 12 kept");
  // Another target is compared with the baseline, which runs again.
  CHECK(cached.run(joined(no_later_pass, {"--model", "m"})) == "6 parts taken, 6 kept");
  CHECK(cached.run(joined(no_later_pass, {"--model", "m", "--target", "fp8"})) == "12 parts taken, 0 kept");
  CHECK(cached.run(no_later_pass) == "18 parts taken, 18 kept");
  // Fewer windows and more, later passes or none.
  CHECK(cached.run(joined(no_later_pass, {"--windows", "8"})) == "24 parts taken, 0 kept");
  CHECK(cached.run(joined(no_later_pass, {"--windows", "9"})) == "24 parts taken, 6 kept");
  CHECK(cached.run(joined(no_later_pass, {"--set", "gates={g: {metric: kl.mean, max: 100}}"})) == "36 parts taken, 0 kept");
}

TEST_CASE("what decides the bits decides what is taken", "[cache]") {
  const TinyExperiment x(6);
  Cached cached(x);
  const Words of_m = joined(no_later_pass, {"--model", "m"});
  CHECK(cached.run(of_m) == "0 parts taken, 9 kept");
  for (const char* set : {"metrics.local_windows=1", "metrics.sink_windows=2", "metrics.kernel_windows=0",
                          "metrics.sink_threshold=0.2", "run.chunk_windows=3", "data.first_token=8", "data.context=4",
                          "data.protocol=outlier_free", "baseline.backend=cpu"}) {
    CAPTURE(set);
    Words sets{"--set", set};
    if (std::string(set) == "data.protocol=outlier_free") sets = joined(sets, {"--set", "data.batch_windows=2"});
    const std::string found = cached.run(joined(of_m, sets));
    CAPTURE(found);
    CHECK(found.starts_with("0 parts taken, "));
  }
  // One target's schemes are its own affair.
  CHECK(cached.run(joined(of_m, {"--set", "targets.int8.preset=int8-per-tensor"})) == "3 parts taken, 3 kept");
  // Another model, and other tokens, under the same names.
  nlohmann::json config = tiny_config();
  config["activation_function"] = "gelu";
  write_model(x.dir, "m", config);
  CHECK(cached.run(of_m) == "0 parts taken, 9 kept");
  x.dir.write("tokens.npy", npy_tokens(std::vector<std::uint16_t>(48, 3)));
  CHECK(cached.run(of_m) == "0 parts taken, 9 kept");
}

TEST_CASE("hashes of exact gates go over all windows: such targets are always computed", "[cache]") {
  const TinyExperiment x(6, "gates: {g: {exact: taps, targets: int8, relative_to: {file: b.json}}}\n");
  Cached cached(x);
  const Words of_m = joined(no_later_pass, {"--model", "m"});
  CHECK(cached.run(of_m).starts_with("0 parts taken, 6 kept"));  // the baseline's and fp8's
  CHECK(cached.run(of_m).starts_with("3 parts taken, 0 kept"));
}

TEST_CASE("a part that is damaged, torn or empty is computed again", "[cache]") {
  const TinyExperiment x(4);
  Cached cached(x);
  REQUIRE(cached.run({}) == "0 parts taken, 12 kept");
  const Words parts = cached.parts();
  REQUIRE(parts.size() == 12);
  const auto write = [](const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  };
  std::string flipped = read_file(parts[0]);
  flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 1);
  write(parts[0], flipped);
  write(parts[1], read_file(parts[1]).substr(0, 100));
  write(parts[2], "");
  write(parts[3], read_file(parts[4]));  // another's content
  write(parts[5], "not a part at all, but a text");
  const Outcome ls = qfid_here({"cache", "ls", "--cache-dir", x.out("cache")});
  CHECK(ls.code == 0);
  CHECK(ls.out.find("of them aren't whole: runs leave them out and remove them\n") != std::string::npos);
  const Outcome warned = x.run("warned", cached.options());
  CHECK(warned.code == 0);
  CHECK(warned.err.find(": left out and removed: ") != std::string::npos);
  CHECK(cached.run({}) == "12 parts taken, 0 kept");
}

TEST_CASE("a cache stays within its size, and the part used last is there longest", "[cache]") {
  const TinyExperiment x;
  Cached cached(x);
  REQUIRE(cached.run(no_later_pass) == "0 parts taken, 36 kept");
  const std::uintmax_t all = bytes_of(cached.parts());
  const double gib = static_cast<double>(all) / 3 / (1 << 30);
  for (const std::string& part : cached.parts())
    fs::last_write_time(part, fs::file_time_type::clock::now() - std::chrono::hours(2));
  x.dir.write("cache/left.part.tmp", "of a killed writer");
  fs::last_write_time(x.out("cache") + "/left.part.tmp", fs::file_time_type::clock::now() - std::chrono::hours(2));
  CHECK(x.run("again", joined({"--cache-dir", x.out("cache"), "--model", "n"}, no_later_pass)).code == 0);
  const Outcome pruned = qfid_here({"cache", "prune", "--cache-dir", x.out("cache"), "--to", std::format("{:.9f}", gib)});
  CHECK(pruned.code == 0);
  CHECK(pruned.out.find(" parts removed, ") != std::string::npos);
  CHECK(bytes_of(cached.parts()) <= static_cast<std::uintmax_t>(gib * (1 << 30)) + 1);
  CHECK(cached.parts().size() > 5);
  CHECK(!fs::exists(x.out("cache") + "/left.part.tmp"));
  const Outcome ls = qfid_here({"cache", "ls", "--cache-dir", x.out("cache")});
  CHECK(ls.out.find("\nn   ") != std::string::npos);  // only what was used again
  CHECK(ls.out.find("\nm   ") == std::string::npos);
  // A run that keeps more than fits.
  const TinyExperiment large(96);
  const Words everywhere = joined(no_later_pass, {"--set", "metrics.local_windows=96", "--set", "metrics.sink_windows=96"});
  Cached limited(large);
  CHECK(limited.run(everywhere).starts_with("0 parts taken, "));
  const double least = 0.001 * (1 << 30);
  REQUIRE(static_cast<double>(bytes_of(limited.parts())) > 2 * least);
  CHECK(large.run("small", joined(joined(limited.options(), {"--cache-size", "0.001", "--model", "m"}), everywhere)).code ==
        0);
  CHECK(large
            .run("other", joined(joined(limited.options(), {"--cache-size", "0.001", "--set", "metrics.sink_threshold=0.2"}),
                                 everywhere))
            .code == 0);
  CHECK(!limited.parts().empty());
  CHECK(static_cast<double>(bytes_of(limited.parts())) <= least);
  CHECK(qfid_here({"cache", "prune", "--cache-dir", x.out("cache"), "--all"}).out.find("; 0.00 MiB left\n") !=
        std::string::npos);
  CHECK(cached.parts().empty());
  CHECK(qfid_here({"cache", "ls", "--cache-dir", x.out("nowhere")}).out.ends_with("/nowhere: 0 parts, 0.00 MiB\n"));
  CHECK(qfid_here({"cache", "prune", "--cache-dir", x.out("nowhere")}).code == 0);
}

TEST_CASE("processes with one cache at the same time", "[cache]") {
  const TinyExperiment x(96);
  const Words everywhere = joined(no_later_pass, {"--set", "metrics.local_windows=96", "--set", "metrics.sink_windows=96"});
  REQUIRE(x.run("plain", everywhere).code == 0);
  std::vector<std::thread> all;
  std::vector<Outcome> outcomes(4);
  for (std::size_t i = 0; i < outcomes.size(); ++i)
    all.emplace_back([&, i] {
      // Some of them remove parts while others read and write them.
      Words more = joined(everywhere, {"--cache-dir", x.out("cache")});
      if (i % 2 == 1) more = joined(more, {"--cache-size", "0.001"});
      outcomes[i] = qfid_process(x.run_arguments("p" + std::to_string(i), more));
    });
  for (std::thread& one : all) one.join();
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    CHECK(outcomes[i].code == 0);
    CHECK(outcomes[i].err.empty());
    CHECK(x.files("p" + std::to_string(i)) == x.files("plain"));
  }
}

TEST_CASE("a resumed run and a shard take parts too", "[cache]") {
  const TinyExperiment x;
  Cached cached(x);
  REQUIRE(cached.run(no_later_pass) == "0 parts taken, 36 kept");
  const auto whole = x.files("run1");
  const auto shard = [&](const char* which, const char* name) {
    return x.run(name, joined(joined(cached.options(), no_later_pass), {"--shard", which})).code;
  };
  CHECK(shard("1/2", "s1") == 0);
  CHECK(shard("2/2", "s2") == 0);
  CHECK(qfid_here({"merge", x.out("s1"), x.out("s2"), "--quiet", "--out", x.out("merged")}).code == 0);
  CHECK(x.files("merged") == whole);
}

TEST_CASE("a run with --dump measures everything", "[cache]") {
  const TinyExperiment x(6);
  Cached cached(x);
  REQUIRE(cached.run(no_later_pass) == "0 parts taken, 18 kept");
  const Words options = joined(joined(cached.options(), no_later_pass), {"--dump", x.out("tensors")});
  CHECK(x.run("dumping", options).code == 0);
  CHECK(x.files("dumping") == x.files("run1"));
  CHECK(!fs::is_empty(x.out("tensors")));
}

TEST_CASE("where the cache is, and where it can't be", "[cache]") {
  const TinyExperiment x(2);
  ProcessOptions environment;
  const std::string named = x.out("named");
  environment.before_exec = [&] { ::setenv("QFID_CACHE_DIR", named.c_str(), 1); };
  CHECK(qfid_process(x.run_arguments("a"), environment).code == 0);
  CHECK(!fs::is_empty(named));
  fs::remove_all(named);
  CHECK(qfid_process(x.run_arguments("b", {"--no-cache"}), environment).code == 0);
  CHECK(!fs::exists(named));
  environment.before_exec = [&] {
    ::unsetenv("QFID_CACHE_DIR");
    ::setenv("XDG_CACHE_HOME", named.c_str(), 1);
  };
  CHECK(qfid_process(x.run_arguments("c"), environment).code == 0);
  CHECK(!fs::exists(named));
  CHECK(qfid_process(x.run_arguments("d", {"--cache"}), environment).code == 0);
  CHECK(!fs::is_empty(named + "/qfid"));
  environment.before_exec = [] {
    for (const char* name : {"QFID_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}) ::unsetenv(name);
  };
  const Outcome homeless = qfid_process(x.run_arguments("e", {"--cache"}), environment);
  CHECK(homeless.code == 2);
  CHECK(homeless.err.find("expected --cache-dir DIR") != std::string::npos);
  x.dir.write("file", "no directory");
  const Outcome file = x.run("f", {"--cache-dir", x.out("file")});
  CHECK(file.code == 3);
  CHECK(x.dir.shown(file.err).starts_with("qfid: DIR/file: "));
  CHECK(qfid_here({"cache", "ls", "--cache-dir", x.out("file")}).code == 3);
  CHECK(x.run("g", {"--cache", "--no-cache"}).code == 2);
  CHECK(qfid_here({"cache"}).code == 2);
  CHECK(qfid_here({"cache", "prune", "--all", "--to", "1"}).code == 2);
}
