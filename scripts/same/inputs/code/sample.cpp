#include <vector>

template <class T>
class Account : public Owned {
public:
    T take(std::vector<T> const& log, int n) const {
        for (auto& x : log)
            if (x > n) return x;
        try {
            write(log[0]);
        } catch (std::exception const& e) {
            throw;
        }
        return T{} + static_cast<T>(n);
    }
};
