// oneDNN Graph's own attention: the library's anchor. INT8 is per tensor with static scales and zero point 0, as frameworks
// hand it over: codes in (the casts are outside the time), P in u8, f32 out. Names: graph/SCHEME/full/1xHEADSxTOKENSxDIM.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <oneapi/dnnl/dnnl_graph.hpp>

#include "quant/core/random.h"
#include "tests/bench/cpu/cpu_bench.h"

namespace qfid::bench {

namespace {

using dnnl::graph::logical_tensor;
using dnnl::graph::op;
using Kind = logical_tensor::data_type;
using Dims = logical_tensor::dims;

struct Shape3 {
  std::int64_t heads, tokens, dim;
};

/// The graph's tensors in the order in which they were made, and its operations.
class Attention {
 public:
  Attention(const Shape3& s, bool int8) : int8_(int8), graph_(dnnl::engine::kind::cpu), rows_{1, s.heads, s.tokens, s.dim} {
    const Dims pairs{1, s.heads, s.tokens, s.tokens};
    const logical_tensor q = operand(0.02F), k = operand(0.02F);
    const logical_tensor products = made(Kind::f32, pairs), divisor = made(Kind::f32, Dims{1}),
                         scores = made(Kind::f32, pairs);
    op qk(next(), op::kind::MatMul, {q, k}, {products});
    qk.set_attr<bool>(op::attr::transpose_b, true);
    graph_.add_op(qk);
    graph_.add_op(op(next(), op::kind::Divide, {products, divisor}, {scores}));
    divisor_ = divisor.get_id();
    logical_tensor p = made(Kind::f32, pairs);
    op softmax(next(), op::kind::SoftMax, {scores}, {p});
    softmax.set_attr<std::int64_t>(op::attr::axis, -1);
    graph_.add_op(softmax);
    if (int8) {
      const logical_tensor codes = made(Kind::u8, pairs), back = made(Kind::f32, pairs);
      add_cast(op::kind::Quantize, p, codes, 1.0F / 255);
      add_cast(op::kind::Dequantize, codes, back, 1.0F / 255);
      p = back;
    }
    const logical_tensor v = operand(0.02F), out = made(Kind::f32, rows_);
    graph_.add_op(op(next(), op::kind::MatMul, {p, v}, {out}));
    if (int8) add_output(out, Dims{1, s.tokens, s.heads, s.dim});
    graph_.finalize();
    compile();
    fill(std::sqrt(static_cast<float>(s.dim)));
  }

  void run() {
    for (Compiled& part : parts_) part.partition.execute(stream_, part.inputs, part.outputs);
    stream_.wait();
  }
  std::size_t partitions() const { return parts_.size(); }

 private:
  struct Compiled {
    dnnl::graph::compiled_partition partition;
    std::vector<dnnl::graph::tensor> inputs, outputs;
  };

  std::size_t next() { return ids_++; }
  logical_tensor made(Kind kind, const Dims& dims) {
    tensors_.emplace_back(next(), kind, dims, logical_tensor::layout_type::strided);
    return tensors_.back();
  }
  void add_cast(op::kind kind, const logical_tensor& src, const logical_tensor& dst, float scale) {
    op cast(next(), kind, {src}, {dst});
    cast.set_attr<std::string>(op::attr::qtype, "per_tensor");
    cast.set_attr<std::vector<float>>(op::attr::scales, {scale});
    cast.set_attr<std::vector<std::int64_t>>(op::attr::zps, {0});
    graph_.add_op(cast);
  }
  /// Tokens first, and codes: without these two oneDNN doesn't fuse INT8.
  void add_output(const logical_tensor& out, const Dims& turned) {
    const logical_tensor view = made(Kind::f32, turned), dense = made(Kind::f32, turned), codes = made(Kind::u8, turned);
    op transpose(next(), op::kind::StaticTranspose, {out}, {view});
    transpose.set_attr<std::vector<std::int64_t>>(op::attr::order, {0, 2, 1, 3});
    graph_.add_op(transpose);
    graph_.add_op(op(next(), op::kind::Reorder, {view}, {dense}));
    add_cast(op::kind::Quantize, dense, codes, 0.05F);
  }
  /// q, k or v as the products take it.
  logical_tensor operand(float scale) {
    if (!int8_) return made(Kind::f32, rows_);
    const logical_tensor codes = made(Kind::s8, rows_), numbers = made(Kind::f32, rows_);
    add_cast(op::kind::Dequantize, codes, numbers, scale);
    return numbers;
  }
  const logical_tensor& at(std::size_t id) const {
    return *std::find_if(tensors_.begin(), tensors_.end(), [&](const logical_tensor& t) { return t.get_id() == id; });
  }
  dnnl::graph::tensor memory(const logical_tensor& port) {
    Tensor& bytes =
        memory_.try_emplace(port.get_id(), DType::u8, Shape{static_cast<std::int64_t>(port.get_mem_size())}).first->second;
    return {port, engine_, bytes.raw()};
  }
  void compile() {
    for (dnnl::graph::partition& partition : graph_.get_partitions()) {
      if (!partition.is_supported()) throw std::runtime_error("oneDNN Graph doesn't support a partition of this attention");
      std::vector<logical_tensor> in, out;
      for (const logical_tensor& port : partition.get_input_ports()) in.push_back(at(port.get_id()));
      for (const logical_tensor& port : partition.get_output_ports()) out.push_back(at(port.get_id()));
      Compiled part{partition.compile(in, out, engine_), {}, {}};
      for (const logical_tensor& port : in) part.inputs.push_back(memory(port));
      for (const logical_tensor& port : out) part.outputs.push_back(memory(port));
      parts_.push_back(std::move(part));
    }
  }
  void fill(float divisor) {
    quant::Random random(17);
    for (auto& [id, bytes] : memory_) {
      const Kind kind = at(id).get_data_type();
      if (id == divisor_) {
        std::memcpy(bytes.raw(), &divisor, sizeof divisor);
      } else if (kind == Kind::s8) {
        for (std::size_t i = 0; i < bytes.bytes(); ++i)
          bytes.raw()[i] = static_cast<std::byte>(static_cast<int>(random.normal() * 40));
      } else if (kind == Kind::f32) {
        auto* x = reinterpret_cast<float*>(bytes.raw());
        for (std::size_t i = 0; i < bytes.bytes() / sizeof(float); ++i) x[i] = static_cast<float>(random.normal());
      }
    }
  }

  bool int8_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::graph::graph graph_;
  Dims rows_;
  std::size_t ids_ = 0, divisor_ = 0;
  std::vector<logical_tensor> tensors_;
  std::map<std::size_t, Tensor> memory_;
  std::vector<Compiled> parts_;
};

void bench_graph(const Shape3& s, bool int8) {
  const std::string name = std::string("graph/") + (int8 ? "int8" : "f32") + "/full/1x" + std::to_string(s.heads) + "x" +
                           std::to_string(s.tokens) + "x" + std::to_string(s.dim);
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) {
                                 try {
                                   Attention attention(s, int8);
                                   attention.run();
                                   for ([[maybe_unused]] auto _ : state) attention.run();
                                   state.SetLabel(std::to_string(attention.partitions()) + " partitions");
                                   count_operations(state, 4.0 * static_cast<double>(s.heads * s.tokens * s.tokens * s.dim));
                                 } catch (const std::exception& error) { fail(state, error.what()); }
                               })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

void register_graphs() {
  for (const bool int8 : {false, true})
    for (const Shape3& s : {Shape3{8, 512, 64}, Shape3{8, 2048, 64}, Shape3{8, 2048, 128}, Shape3{4, 8192, 128}})
      bench_graph(s, int8);
}

}  // namespace qfid::bench
