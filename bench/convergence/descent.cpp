#include "descent.hpp"

#include <cmath>
#include <exception>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "worker.hpp"

#include "gradwire/allreduce.hpp"

namespace gradwire::convergence {
namespace {

using Workers = std::vector<std::unique_ptr<Worker>>;

constexpr std::chrono::seconds kPatience{60};

std::size_t part_elems(const Problem& problem, const DescentOptions& options) {
  const auto parts = static_cast<std::size_t>(options.parts);
  if (parts == 0 || problem.dimension() % parts != 0) {
    throw std::invalid_argument("the dimension is no multiple of the parts");
  }
  return problem.dimension() / parts;
}

bool due(const DescentOptions& options, std::uint64_t step) {
  return step % options.record_every == 0 || step == options.steps;
}

/// The collective of one rank, with what it needs to run again and again.
class Reducer {
 public:
  Reducer(const Communicator& comm, const Problem& problem, const DescentOptions& options)
      : part_(part_elems(problem, options)),
        buffers_(static_cast<std::size_t>(options.parts)),
        allreduce_(comm, items(options), Slot{0},
                   {.algorithm = options.algorithm, .seed = options.seed, .timeout = kPatience}),
        workspace_(allreduce_.workspace_bytes()) {}
  ~Reducer() {
    if (!allreduce_.in_step()) workspace_.abandon();
  }

  void run(const Worker& worker) {
    for (std::size_t part = 0; part < buffers_.size(); ++part) {
      buffers_[part] = {worker.input().slice(part * part_, part_), worker.residual().slice(part * part_, part_)};
    }
    allreduce_.start(buffers_, workspace_.bytes(), worker.step(), StreamRef::host()).wait();
    sent_bytes_ += allreduce_.stats().wire_bytes;
  }
  [[nodiscard]] std::uint64_t sent_bytes() const noexcept { return sent_bytes_; }

 private:
  [[nodiscard]] std::vector<BucketItem> items(const DescentOptions& options) const {
    std::vector<BucketItem> all;
    const Compressor compressor = make_compressor(options.compressor);
    for (std::uint32_t part = 0; part < buffers_.size(); ++part) {
      all.push_back({.param = ParamId{part}, .count = part_, .compressor = compressor});
    }
    return all;
  }

  std::size_t part_;
  std::vector<ItemBuffers> buffers_;
  PersistentAllreduce allreduce_;
  Buffer workspace_;
  std::uint64_t sent_bytes_ = 0;
};

/// All ranks see the same x, so that they stop together.
void run_rank(const Communicator& comm, const Problem& problem, const DescentOptions& options, Worker& worker,
              Descent& descent) {
  const bool records = comm.rank() == 0;
  Reducer reducer(comm, problem, options);
  if (records) descent.history.push_back(worker.point());
  while (worker.step() < options.steps && !worker.diverged()) {
    worker.prepare();
    reducer.run(worker);
    worker.finish();
    if (records && due(options, worker.step())) descent.history.push_back(worker.point());
  }
  if (!records) return;
  descent.diverged = worker.diverged();
  descent.wire_bytes_per_step = static_cast<double>(reducer.sent_bytes()) / static_cast<double>(worker.step());
}

Workers make_workers(const Problem& problem, const DescentOptions& options) {
  Workers workers;
  for (int rank = 0; rank < problem.workers(); ++rank) {
    workers.push_back(std::make_unique<Worker>(problem, options, rank));
  }
  return workers;
}

/// One step of the two-step algorithm, all ranks after each other. Sums are built as scatter_reduce builds them: the
/// owner's own input first, then frames in rank order.
class TwoSteps {
 public:
  TwoSteps(const Problem& problem, const DescentOptions& options, OwnerError owner_error)
      : compressor_(make_compressor(options.compressor)),
        seed_(options.seed),
        credited_(owner_error == OwnerError::credited),
        part_(part_elems(problem, options)),
        frame_(compressor_.max_frame_size(part_, DType::f32)),
        sum_(part_ * sizeof(float)),
        owed_(part_ * sizeof(float)) {}

  void run(const Workers& workers) {
    for (std::size_t owner = 0; owner < workers.size(); ++owner) reduce_chunk(workers, owner);
  }

 private:
  void reduce_chunk(const Workers& workers, std::size_t owner) {
    const auto chunk = [&](const Tensor& whole) { return whole.slice(owner * part_, part_); };
    const Tensor sum = sum_.tensor(part_);
    const Worker& owns = *workers[owner];
    const auto* const own = static_cast<const float*>(chunk(owns.input()).data);
    std::copy(own, own + part_, static_cast<float*>(sum.data));
    for (std::size_t rank = 0; rank < workers.size(); ++rank) {
      if (rank == owner) continue;
      encode(chunk(workers[rank]->input()), chunk(workers[rank]->residual()), key(owns, owner, rank));
      compressor_.decode(frame_.bytes(), sum, Write::add);
    }
    encode(sum, owed_.tensor(part_), key(owns, owner, workers.size() + owner));
    const auto* const owed = static_cast<const float*>(owed_.tensor(part_).data);
    auto* const residual = static_cast<float*>(chunk(owns.residual()).data);
    for (std::size_t i = 0; i < part_; ++i) residual[i] = credited_ ? owed[i] : 0.0F;
    for (const auto& worker : workers) compressor_.decode(frame_.bytes(), chunk(worker->input()), Write::assign);
  }

  void encode(const ConstTensor& values, const Tensor& residual, const RandomKey& key) {
    compressor_.encode(values, frame_.bytes(), residual, key);
  }
  [[nodiscard]] RandomKey key(const Worker& worker, std::size_t part, std::size_t stream) const {
    return {seed_ + stream * 0x9e37'79b9u, worker.step(), ParamId{static_cast<std::uint32_t>(part)}, 0};
  }

  Compressor compressor_;
  std::uint64_t seed_;
  bool credited_;
  std::size_t part_;
  Buffer frame_;
  Buffer sum_;
  Buffer owed_;
};

}  // namespace

double Descent::last_distance_squared() const {
  return diverged ? std::numeric_limits<double>::infinity() : history.back().distance_squared;
}

double Descent::floor() const {
  if (diverged) return std::numeric_limits<double>::infinity();
  const std::size_t first = history.size() - (history.size() + 4) / 5;
  double sum = 0;
  for (std::size_t i = first; i < history.size(); ++i) sum += history[i].distance_squared;
  return sum / static_cast<double>(history.size() - first);
}

double Descent::decay(double lowest, double highest) const {
  double n = 0, t = 0, y = 0, tt = 0, ty = 0;
  for (const Point& point : history) {
    if (!(point.distance_squared > lowest && point.distance_squared < highest)) continue;
    const auto step = static_cast<double>(point.step);
    const double log = std::log(point.distance_squared);
    n += 1, t += step, y += log, tt += step * step, ty += step * log;
  }
  return n < 3 ? std::numeric_limits<double>::quiet_NaN() : -(n * ty - t * y) / (n * tt - t * t);
}

Descent descend(const Problem& problem, const DescentOptions& options) {
  Descent descent;
  const Workers workers = make_workers(problem, options);
  const std::vector<Communicator> comms = make_local(problem.workers());
  std::mutex mutex;
  std::exception_ptr failure;
  {
    std::vector<std::jthread> threads;
    for (const auto& worker : workers) {
      const Communicator& comm = comms[threads.size()];
      threads.emplace_back([&, &rank_worker = *worker, &rank_comm = comm] {
        try {
          run_rank(rank_comm, problem, options, rank_worker, descent);
        } catch (const std::exception& error) {
          const std::lock_guard lock(mutex);
          if (!failure) failure = std::current_exception();
          rank_comm.transport().abort(error.what());
        }
      });
    }
  }
  if (failure) std::rethrow_exception(failure);
  descent.drift = Worker::drift(workers);
  descent.owed = Worker::owed(workers);
  return descent;
}

Descent descend_two_steps(const Problem& problem, const DescentOptions& options, OwnerError owner_error) {
  if (options.parts != problem.workers()) throw std::invalid_argument("there must be one part for each worker");
  Descent descent;
  const Workers workers = make_workers(problem, options);
  const Worker& first = *workers.front();
  TwoSteps algorithm(problem, options, owner_error);
  descent.history.push_back(first.point());
  while (first.step() < options.steps && !first.diverged()) {
    for (const auto& worker : workers) worker->prepare();
    algorithm.run(workers);
    for (const auto& worker : workers) worker->finish();
    if (due(options, first.step())) descent.history.push_back(first.point());
  }
  descent.diverged = first.diverged();
  descent.drift = Worker::drift(workers);
  descent.owed = Worker::owed(workers);
  return descent;
}

}  // namespace gradwire::convergence
