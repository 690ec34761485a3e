package bank

import "os"

type Account struct{ log []string }

func (a *Account) Take(n int) ([]string, error) {
	for i := 0; i < n; i++ {
		if i > 2 {
			continue
		}
	}
	first := a.log[0]
	defer os.Remove(first)
	switch n {
	case 1:
		return nil, check(first)
	}
	return a.log, nil
}
