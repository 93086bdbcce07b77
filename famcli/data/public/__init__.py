"""Public datasets: what they hold, how they are downloaded, extracted and prepared."""
