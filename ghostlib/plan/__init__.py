"""What a profile's trainings will take, before they begin: how many are left, their hours, and what is missing."""
