// Scores sequences on two threads that share one model: two_threads examples/digits.gated < images.txt
//
// A line of input is one sequence, the numbers of its first step, then of its second, and so on; a line of output is what
// the network makes of it, after its last step. Each thread takes half of them through a pool of its own: as one sequence
// ends, the next takes its place. two_threads.py prints the same.
#include <gated_c.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t AT_ONCE = 16;

struct Free {
    void operator()(gated_model *model) const { gated_model_free(model); }
    void operator()(gated_pool *pool) const { gated_pool_free(pool); }
};

using Model = std::unique_ptr<gated_model, Free>;
using Pool = std::unique_ptr<gated_pool, Free>;
using Sequence = std::vector<float>; // [T, C]

void check(gated_status status)
{
    if (status != GATED_OK)
        throw std::runtime_error(gated_status_string(status));
}

Model open_model(const char *path)
{
    gated_model *model = nullptr;
    check(gated_model_open(path, &model));
    return Model(model);
}

Pool create_pool(const gated_model *model)
{
    gated_pool *pool = nullptr;
    check(gated_pool_create(model, AT_ONCE, &pool));
    return Pool(pool);
}

Sequence parse(const std::string &line, std::size_t number_of_line, std::size_t features)
{
    std::istringstream numbers(line);
    Sequence sequence;
    for (double number; numbers >> number;)
        sequence.push_back(static_cast<float>(number));
    if (!numbers.eof() || sequence.empty() || sequence.size() % features != 0)
        throw std::runtime_error("line " + std::to_string(number_of_line) + ": expected steps of " +
                                 std::to_string(features) + " numbers, got: " + line.substr(0, 40));
    return sequence;
}

std::vector<Sequence> read_sequences(std::istream &input, std::size_t features)
{
    std::vector<Sequence> sequences;
    for (std::string line; std::getline(input, line);)
        sequences.push_back(parse(line, sequences.size() + 1, features));
    return sequences;
}

// The half of one thread: sequences first..last, and where their results go.
class Worker {
public:
    Worker(const gated_model *model, const std::vector<Sequence> &sequences, std::vector<Sequence> &results,
           std::size_t first, std::size_t last)
        : pool(create_pool(model)), sequences(sequences), results(results), next(first), last(last)
    {
        gated_model_describe(model, &info);
    }

    void run()
    {
        fill();
        while (!live.empty()) {
            tick();
            retire();
            fill();
        }
    }

private:
    struct Member {
        std::size_t sequence, step;
    };

    void fill()
    {
        for (; live.size() < AT_ONCE && next < last; next++) {
            std::int64_t id = 0;
            check(gated_pool_open(pool.get(), &id));
            ids.push_back(id);
            live.push_back({next, 0});
        }
    }

    // One step of every live sequence.
    void tick()
    {
        x.clear();
        for (Member &member : live) {
            const float *step = sequences[member.sequence].data() + member.step++ * input_size();
            x.insert(x.end(), step, step + input_size());
        }
        y.resize(live.size() * output_size());
        check(gated_pool_step(pool.get(), static_cast<std::int64_t>(ids.size()), ids.data(), x.data(), y.data()));
    }

    // Those that have ended give way: the last one takes the place of each.
    void retire()
    {
        for (std::size_t k = live.size(); k-- > 0;) {
            const Member &member = live[k];
            if (member.step * input_size() < sequences[member.sequence].size())
                continue;
            const float *result = y.data() + k * output_size();
            results[member.sequence].assign(result, result + output_size());
            check(gated_pool_close(pool.get(), 1, &ids[k]));
            live[k] = live.back();
            live.pop_back();
            ids[k] = ids.back();
            ids.pop_back();
        }
    }

    std::size_t input_size() const { return static_cast<std::size_t>(info.input_size); }
    std::size_t output_size() const { return static_cast<std::size_t>(info.output_size); }

    Pool pool;
    gated_model_info info{};
    const std::vector<Sequence> &sequences;
    std::vector<Sequence> &results;
    std::size_t next, last;
    std::vector<Member> live;
    std::vector<std::int64_t> ids;
    std::vector<float> x, y;
};

std::vector<Sequence> score(const gated_model *model, const std::vector<Sequence> &sequences)
{
    std::vector<Sequence> results(sequences.size());
    const std::size_t half = sequences.size() / 2;
    Worker workers[] = {{model, sequences, results, 0, half}, {model, sequences, results, half, sequences.size()}};
    std::exception_ptr failures[2];
    const auto run = [&](int k) {
        try {
            workers[k].run();
        } catch (...) {
            failures[k] = std::current_exception();
        }
    };
    std::thread other(run, 1);
    run(0);
    other.join();
    for (const std::exception_ptr &failure : failures)
        if (failure)
            std::rethrow_exception(failure);
    return results;
}

// Nine digits give every float back exactly.
void print(const Sequence &result)
{
    const char *before = "";
    for (float number : result) {
        std::printf("%s%.9g", before, static_cast<double>(number));
        before = " ";
    }
    std::printf("\n");
}

void run(const char *path)
{
    const Model model = open_model(path);
    gated_model_info info;
    gated_model_describe(model.get(), &info);
    if (info.takes_ids || !info.streamable)
        throw std::runtime_error("expected a network of float inputs that runs step by step");
    const auto sequences = read_sequences(std::cin, static_cast<std::size_t>(info.input_size));
    for (const Sequence &result : score(model.get(), sequences))
        print(result);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fputs("usage: two_threads MODEL < sequences.txt\n", stderr);
        return 2;
    }
    try {
        run(argv[1]);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "two_threads: %s\n", error.what());
        return 1;
    }
    return 0;
}
