// Gloo's allreduce over TCP: every algorithm it has for one tensor a process. MPI starts the ranks and times them.
#include <gloo/allreduce.h>
#include <gloo/allreduce_halving_doubling.h>
#include <gloo/allreduce_ring_chunked.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>
#include <mpi.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>

#include "allreduce_bench.hpp"

namespace {

using gradwire::bench::Contender;
using gradwire::bench::Options;
using GlooContext = std::shared_ptr<gloo::rendezvous::Context>;

/// The directory where ranks find each other: the one given, or a fresh one made by rank 0.
class MeetingPlace {
 public:
  MeetingPlace(const std::string& given, int rank) : remove_(given.empty() && rank == 0), path_(4096, '\0') {
    if (!given.empty()) {
      path_ = given;
      return;
    }
    std::string made = "/tmp/gloo_allreduce.XXXXXX";
    if (rank == 0 && mkdtemp(made.data()) == nullptr) throw std::runtime_error("cannot make a directory in /tmp");
    made.resize(path_.size());
    MPI_Bcast(made.data(), static_cast<int>(made.size()), MPI_CHAR, 0, MPI_COMM_WORLD);
    path_ = made.c_str();
  }
  MeetingPlace(const MeetingPlace&) = delete;
  MeetingPlace& operator=(const MeetingPlace&) = delete;
  ~MeetingPlace() {
    std::error_code ignored;
    if (remove_) std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  bool remove_;
  std::string path_;
};

GlooContext connect(const Options& options) {
  int rank = 0;
  int size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  gloo::transport::tcp::attr attributes;
  attributes.iface = options.network;
  auto device = gloo::transport::tcp::CreateDevice(attributes);
  const MeetingPlace place(options.store, rank);
  gloo::rendezvous::FileStore store(place.path());
  auto context = std::make_shared<gloo::rendezvous::Context>(rank, size);
  context->connectFullMesh(store, device);
  MPI_Barrier(MPI_COMM_WORLD);
  return context;
}

Contender ring(const GlooContext& context, std::size_t segment_kib) {
  return {"ring/" + std::to_string(segment_kib) + "K", [=](float* values, std::size_t count) {
            gloo::AllreduceOptions request(context);
            request.setOutput(values, count);
            request.setAlgorithm(gloo::AllreduceOptions::Algorithm::RING);
            request.setMaxSegmentSize(segment_kib << 10);
            using Sum = void (*)(void*, const void*, const void*, size_t);
            request.setReduceFunction(static_cast<Sum>(&gloo::sum<float>));
            gloo::allreduce(request);
          }};
}

Contender bcube(const GlooContext& context) {
  return {"bcube", [=](float* values, std::size_t count) {
            gloo::AllreduceOptions request(context);
            request.setOutput(values, count);
            request.setAlgorithm(gloo::AllreduceOptions::Algorithm::BCUBE);
            using Sum = void (*)(void*, const void*, const void*, size_t);
            request.setReduceFunction(static_cast<Sum>(&gloo::sum<float>));
            gloo::allreduce(request);
          }};
}

/// The older interface prepares buffers once per tensor, so it is kept as long as the tensor stays the same.
template <class Algorithm>
Contender prepared(const char* label, const GlooContext& context) {
  struct Kept {
    float* values = nullptr;
    std::size_t count = 0;
    std::unique_ptr<Algorithm> algorithm;
  };
  auto kept = std::make_shared<Kept>();
  return {label, [=](float* values, std::size_t count) {
            if (kept->algorithm == nullptr || kept->values != values || kept->count != count) {
              kept->algorithm =
                  std::make_unique<Algorithm>(context, std::vector<float*>{values}, static_cast<int>(count));
              kept->values = values;
              kept->count = count;
            }
            kept->algorithm->run();
          }};
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const Options options = gradwire::bench::read_options("gloo", argc, argv);
  int code = 0;
  try {
    const GlooContext context = connect(options);
    code =
        gradwire::bench::run(options, {ring(context, 64), ring(context, 256), ring(context, 1024), bcube(context),
                                       prepared<gloo::AllreduceRingChunked<float>>("ring_chunked", context),
                                       prepared<gloo::AllreduceHalvingDoubling<float>>("halving_doubling", context)});
    MPI_Barrier(MPI_COMM_WORLD);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gloo_allreduce: %s\n", error.what());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
  return code;
}
