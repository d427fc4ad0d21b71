"""A person looks at judged answers, one at a time, and confirms or overturns the verdicts."""
