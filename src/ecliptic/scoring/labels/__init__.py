"""What is computed about the labels of one user: calibration, sets, few examples, trees."""
