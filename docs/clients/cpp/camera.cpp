// A camera: sends the JPEG files of a folder over one stream and writes the masks as PGM files (class ids).
//
//   camera HOST:PORT FOLDER OUT [FRAMES_PER_SECOND]
//
// The server drops the oldest waiting frame where it cannot keep up (DROP_OLDEST), so that what comes back is never far
// behind the road. Every frame has one outcome: a mask, a drop, or an error; the last two are printed. One thread
// sends, the main thread receives. Exit status: 0 if no frame failed, 1 if one did or the stream broke, 2 for a wrong
// command line.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "onepixel/v1/segmentation.grpc.pb.h"

namespace fs = std::filesystem;
namespace pb = onepixel::v1;

using Stream = grpc::ClientReaderWriter<pb::StreamSegmentRequest, pb::StreamSegmentResponse>;

// The .jpg and .jpeg files of a folder, by name.
std::vector<fs::path> JpegFiles(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string suffix = entry.path().extension().string();
    if (entry.is_regular_file() && (suffix == ".jpg" || suffix == ".jpeg")) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A RAW mask is a byte per pixel, row by row from the top: exactly the body of a PGM file.
bool WritePgm(const fs::path& path, const pb::Mask& mask) {
  std::ofstream file(path, std::ios::binary);
  file << "P5\n" << mask.width() << ' ' << mask.height() << "\n255\n" << mask.data();
  file.close();
  return file.good();
}

// The config first, then the frames at their pace. A write fails once the stream has ended; Finish() says why.
void Send(Stream& stream, const std::vector<fs::path>& files, std::chrono::duration<double> interval) {
  pb::StreamSegmentRequest first;
  pb::StreamConfig* config = first.mutable_config();
  config->set_overflow_policy(pb::OVERFLOW_POLICY_DROP_OLDEST);
  config->mutable_options()->set_mask_encoding(pb::MASK_ENCODING_RAW);
  bool open = stream.Write(first);

  auto due = std::chrono::steady_clock::now();
  for (std::size_t sequence = 0; open && sequence < files.size(); ++sequence) {
    std::this_thread::sleep_until(due);
    due += std::chrono::duration_cast<std::chrono::steady_clock::duration>(interval);

    pb::StreamSegmentRequest request;
    pb::Frame* frame = request.mutable_frame();
    frame->set_camera_id("camera");
    frame->set_sequence(sequence);
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    frame->mutable_capture_time()->set_seconds(nanoseconds / 1'000'000'000);
    frame->mutable_capture_time()->set_nanos(static_cast<int>(nanoseconds % 1'000'000'000));
    frame->mutable_encoded()->set_format(pb::IMAGE_FORMAT_JPEG);
    frame->mutable_encoded()->set_data(ReadFile(files[sequence]));
    open = stream.Write(request);
  }
  stream.WritesDone();
}

int main(int argc, char** argv) {
  const double rate = argc == 5 ? std::atof(argv[4]) : 30.0;
  if (argc < 4 || argc > 5 || !(rate > 0) || !fs::is_directory(argv[2])) {
    std::cerr << "usage: camera HOST:PORT FOLDER OUT [FRAMES_PER_SECOND]\n";
    return 2;
  }
  const std::vector<fs::path> files = JpegFiles(argv[2]);
  const fs::path out = argv[3];
  std::error_code error;
  fs::create_directories(out, error);
  if (error) {
    std::cerr << "OUT: " << out << " cannot be made: " << error.message() << '\n';
    return 2;
  }

  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);               // a mask of a large frame passes gRPC's 4 MiB
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);  // a server that vanished without a word is noticed
  const auto channel = grpc::CreateCustomChannel(argv[1], grpc::InsecureChannelCredentials(), arguments);
  const auto stub = pb::SegmentationService::NewStub(channel);

  grpc::ClientContext context;
  const std::unique_ptr<Stream> stream = stub->StreamSegment(&context);
  std::thread sender(Send, std::ref(*stream), std::cref(files), std::chrono::duration<double>(1.0 / rate));

  int masks = 0, dropped = 0, failed = 0;
  pb::StreamSegmentResponse response;
  while (stream->Read(&response)) {
    const fs::path& file = files.at(response.sequence());
    switch (response.outcome_case()) {
      case pb::StreamSegmentResponse::kSegmentation:
        if (WritePgm(out / file.filename().replace_extension(".pgm"), response.segmentation().mask())) {
          ++masks;
        } else {
          ++failed;
          std::cerr << file.filename().string() << ": the mask cannot be written to " << out << '\n';
        }
        break;
      case pb::StreamSegmentResponse::kDropped:
        ++dropped;
        std::cerr << file.filename().string() << ": " << pb::DropReason_Name(response.dropped().reason()) << '\n';
        break;
      default:
        ++failed;
        std::cerr << file.filename().string() << ": error " << response.error().code() << ": "
                  << response.error().message() << '\n';
    }
  }
  sender.join();
  const grpc::Status status = stream->Finish();
  std::cout << files.size() << " frames: " << masks << " masks, " << dropped << " dropped, " << failed << " failed\n";
  if (!status.ok()) std::cerr << "the stream ended: " << status.error_code() << ": " << status.error_message() << '\n';
  return status.ok() && failed == 0 ? 0 : 1;
}
