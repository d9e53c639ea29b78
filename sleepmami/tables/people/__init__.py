"""Who slept: tables of people as cohorts publish them, and the row that a recording belongs to."""
