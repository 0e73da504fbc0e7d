"""Long work whose results are kept: jobs, the store they lie in, and the engines that run many."""
